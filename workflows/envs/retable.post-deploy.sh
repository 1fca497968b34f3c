#!/usr/bin/env bash
set -euo pipefail
python -m pip install --constraint requirements.lock --editable ".[all]"
