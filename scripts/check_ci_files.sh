#!/bin/sh
# Checks action.yml and the CI templates against the schemas that check-jsonschema ships (no network).
#     pip install check-jsonschema && scripts/check_ci_files.sh
set -e
cd "$(dirname "$0")/.."
check() {
    schema=$1
    shift
    "${CHECK_JSONSCHEMA:-check-jsonschema}" --builtin-schema "$schema" "$@"
}
check vendor.github-actions action.yml
check vendor.github-workflows examples/ci-gate/.github/workflows/robustness.yml
check vendor.gitlab-ci examples/ci-gate/.gitlab-ci.yml
