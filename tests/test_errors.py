"""The helpers that messages are built with."""

from __future__ import annotations

import errno
import os
import sys
import types
from pathlib import Path

import pytest

from gamma_nlp.errors import (
    GammaError,
    MissingExtra,
    about_file,
    close_to,
    is_installed,
    listed,
    need,
    need_installed,
    one_line,
    panics_are_errors,
    print_error,
    shown,
)


def test_an_error_is_one_line_and_may_have_nowhere_to_go(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    print_error(GammaError("two  words:\n  a\r\n b\u2028c"))
    assert capsys.readouterr().err == "error: two  words: a b c\n"
    monkeypatch.setattr("sys.stderr", None)
    print_error("unheard")


def test_no_value_of_the_user_breaks_a_message_or_colours_the_terminal() -> None:
    assert (
        str(GammaError("write \x1b[31mred\n\tand\x85more\x00, né")) == "write [31mred and more , né"
    )


def test_an_exception_becomes_one_line_that_is_never_empty() -> None:
    assert one_line(ValueError("two\n  lines")) == "two lines"
    assert one_line(ValueError("x" * 500), most=20) == "x" * 20
    assert one_line(KeyError()) == "KeyError"
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/f")
    assert one_line(full) == "No space left on device"
    assert one_line(full, file=True) == "No space left on device: out/f"
    assert one_line(OSError("the reply is\ncut"), file=True) == "the reply is cut"


def test_an_error_about_a_file_names_it_and_any_other_stays_an_error() -> None:
    denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES), "out/run.json")
    assert about_file(denied) == "cannot use out/run.json: Permission denied; check the path"
    with pytest.raises(OSError, match="no file named"):
        about_file(OSError("no file named x, says a library"))


def test_names_are_cut_after_the_fourth() -> None:
    assert listed("ab") == "'a', 'b'"
    assert listed("abcdef") == "'a', 'b', 'c', 'd' and 2 more"


def test_close_names_are_asked_for() -> None:
    assert close_to("guideline", ["guidelines", "none"]) == "; did you mean 'guidelines'?"
    assert close_to("h.0.ln", ["h.0.ln_1", "h.1.ln_1"], most=2) == (
        "; did you mean 'h.0.ln_1' or 'h.1.ln_1'?"
    )
    assert close_to("xyz", ["guidelines"]) == ""


def test_a_missing_package_names_its_extra() -> None:
    with pytest.raises(GammaError, match=r"^scores need no_such: pip install 'gamma_nlp\[hf\]'"):
        need("no_such.part", "hf", "scores need")


def test_a_package_that_does_not_import_is_told_from_one_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_there.py").write_text("import no_such_part")
    (tmp_path / "broken.py").write_text("raise ImportError('no\\nlibfoo.so')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(GammaError, match="plots need no_such_part: pip install"):
        need("half_there", "plot", "plots need")
    with pytest.raises(GammaError, match=r"need broken, which cannot be imported \(no libfoo.so"):
        need("broken", "plot", "plots need")
    assert need("json", "plot", "plots need") is sys.modules["json"]


def test_packages_are_looked_for_without_importing_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_but_there.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "stand_in", types.ModuleType("stand_in"))
    assert is_installed("broken_but_there") and not is_installed("no_such")
    assert is_installed("stand_in")
    need_installed(["json", "broken_but_there"], "hf", "it needs")
    with pytest.raises(MissingExtra, match=r"^it needs no_such: pip install 'gamma_nlp\[hf\]'$"):
        need_installed(["json", "no_such", "nor_this"], "hf", "it needs")


def test_a_missing_extra_is_an_import_error_too() -> None:
    with pytest.raises(ImportError, match=r"scores need no_such: pip install"):
        need("no_such", "translation", "scores need")


def test_a_hidden_package_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"this needs matplotlib: pip install 'gamma_nlp\[x\]'"):
        need_installed(("json", "matplotlib", "nothing_at_all"), "x", "this needs")


def test_a_wrong_case_is_a_small_slip() -> None:
    assert close_to("GUIDELINES", ["none", "guidelines"]) == "; did you mean 'guidelines'?"
    assert close_to("bertmodel", ["BertModel", "GPT2Model"]) == "; did you mean 'BertModel'?"


def test_a_value_is_shown_on_one_short_line() -> None:
    shared: list[object] = [1]
    for _ in range(40):
        shared = [shared] * 40
    for value in ("a\nb", "x" * 10_000, 10**5000, shared, {"a": {"b": {"c": {"d": shared}}}}, b"x"):
        assert "\n" not in shown(value)
        assert len(shown(value)) < 400
    assert shown(["a", 1.5, None]) == "['a', 1.5, None]"
    assert shown(-(10**400)) == "a number of about 401 digits"


def test_a_panic_is_an_error_and_an_interrupt_stays_one() -> None:
    class PanicException(BaseException):
        """As the one of packages written in Rust, by its name."""

    with pytest.raises(RuntimeError, match=r"^no entry found$"), panics_are_errors():
        raise PanicException("no entry\nfound")
    with pytest.raises(KeyboardInterrupt), panics_are_errors():
        raise KeyboardInterrupt
