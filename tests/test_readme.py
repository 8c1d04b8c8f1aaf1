"""Every README's code runs as printed, and every command is one that works.

The blocks of a README run in a folder that holds small stand-ins under the names that the README
uses: a tiny BERT called ``bert-base-uncased``, GLUE data of a few dozen sentences, and so on.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT
from tests.support.readmes import Command, blocks, commands, name, readmes

PYTHON = [path for path in readmes() if any(b.language == "python" for b in blocks(path))]
COMMANDS = [command for path in readmes() for command in commands(path)]
