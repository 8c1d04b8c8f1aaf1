# shellcheck shell=bash
# Sourced by the recipes beside it: the steps they share. Commands come from .venv if there is one,
# else from the PATH. A recipe that is started again continues from its last checkpoint.

say() { printf '%s\n' "$*" >&2; }
fail() { say "error: $*"; exit 2; }

home=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
[ -d "$home/.venv/bin" ] && PATH=$home/.venv/bin:$PATH
command -v gamma-fairseq-train >/dev/null ||
    fail "gamma-fairseq-train is not installed; type: bash scripts/install_fairseq"

device=()
# find_device: fairseq must be told if there is no GPU. It takes seconds, so after all checks.
find_device() {
    python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || device=(--cpu)
}

# binarise PREPARED BINARY [OPTION...]: turn a folder of prepare_iwslt14 into fairseq's binary form.
binarise() {
    local prepared=$1 binary=$2 tests=() file
    shift 2
    [ -e "$prepared/train.de" ] && [ -e "$prepared/train.en" ] && [ -e "$prepared/SHA256SUMS" ] ||
        fail "$prepared lacks train.de, train.en or SHA256SUMS;" \
            "type: bash scripts/prepare_iwslt14 INPUT $prepared"
    if [ -e "$binary/SHA256SUMS" ]; then
        cmp -s "$prepared/SHA256SUMS" "$binary/SHA256SUMS" ||
            fail "$binary was made from other text than $prepared; give a new output folder"
        return
    fi
    for file in "$prepared"/test*.de; do
        tests+=("${file%.de}")
    done
    mkdir -p "$(dirname "$binary")" || fail "give another output folder"
    say "binarising $prepared into $binary"
    rm -rf "$binary"
    gamma-fairseq-preprocess --source-lang de --target-lang en \
        --trainpref "$prepared/train" --validpref "$prepared/valid" \
        --testpref "$(IFS=,; printf '%s' "${tests[*]}")" \
        --destdir "$binary" "$@" >"$binary.log" 2>&1 ||
        fail "fairseq-preprocess failed; see $binary.log"
    printf '%s\n' "${tests[@]##*/}" >"$binary/tests"
    cp "$prepared/SHA256SUMS" "$binary" # last, as the mark that the rest is complete
}

# translate BINARY CHECKPOINT OUTPUT [OPTION...]: translate each test set with beam 5, print its BLEU.
translate() {
    local binary=$1 checkpoint=$2 output=$3 index=0 name subset
    shift 3
    while read -r name; do
        subset=test$([ "$index" = 0 ] || printf '%s' "$index")
        gamma-fairseq-generate "$binary" --path "$checkpoint" --gen-subset "$subset" \
            --beam 5 --lenpen 1 --max-len-a 1.2 --max-len-b 10 --remove-bpe "$@" \
            >"$output/$name.log" 2>"$output/$name.err" ||
            fail "fairseq-generate failed; see $output/$name.err"
        printf '%s: ' "$name"
        gamma-nlp score --fairseq-log "$output/$name.log"
        index=$((index + 1))
    done <"$binary/tests"
}
