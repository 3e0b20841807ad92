#!/usr/bin/env bash
# Makes what docs/explanation/published-tariff.md and docs/explanation/pricing.md show, from recorded traces and leaks. Run from the project's folder.
# leaks-*.npz were recorded by benchmarks/leak_record.py; see leaks-*.json.
set -euo pipefail
here=results/pricing
modeltoll=${MODELTOLL:-.venv/bin/modeltoll}

published() {
  for data in mnist cifar10; do
    for sign in unsigned signed; do
      for step in paper 64 1000 10000; do
        option=(--rows-per-step "$step")
        [ "$step" = paper ] && option=()
        "$modeltoll" simulate "results/reference/model_extraction_attack_accuracy_$data.csv" \
          --standard "results/reference/time_privacy_cost_$data.csv" --tariff published \
          "--$sign" "${option[@]}" --json "$here/published-$data-$sign-$step.json" > /dev/null
      done
    done
  done
}

# $1 the data set, $2 the undefended milliseconds of a row on the paper's machine (Table 5: 64 queries), $3 the measures.
leaks() {
  "$modeltoll" calibrate --leaks "$here/leaks-$1.npz" --model "$1" --measures "$3" \
    --undefended-ms "$2" --out "$here/tariff-$1.json" --json "$here/calibration-$1.json" > /dev/null
  for kind in keyed anonymous; do
    option=(--anonymous)
    figure=()
    [ "$kind" = keyed ] && option=() && figure=(--figure "docs/images/pricing-$1.png")
    "$modeltoll" simulate "$here/leaks-$1.npz" --tariff "$here/tariff-$1.json" --tariff published \
      --filler-p 0.1..1 "${option[@]}" "${figure[@]}" --json "$here/callers-$1-$kind.json" > /dev/null
  done
}

published
[ $# -gt 0 ] || set -- mnist cifar10
for data in "$@"; do
  case $data in
    mnist) leaks mnist 3.34 entropy,novelty-layered=2 ;;
    cifar10) leaks cifar10 3.89 entropy,novelty-directions=2 ;;
    *) echo "no recorded leaks of $data" >&2; exit 2 ;;
  esac
done
