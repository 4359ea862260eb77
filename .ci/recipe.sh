# How the bundled models are trained; read by weights.sh and ablations.sh. Each function adds options to the recipe.
dir=target/weights
device=${DEVICE:-cpu}
mkdir -p "$dir"

step() { # step OUTPUT COMMAND...: runs the command unless its output is there
  local output=$1
  shift
  if [ -e "$output" ]; then echo "weights: $output is there"; return; fi
  echo "weights: $*"
  "$@"
}

kept() { # kept NAME COMMAND...: a training that writes NAME.safetensors and goes on from NAME.state
  local name=$1
  shift
  step "$name.safetensors" "$@" --device "$device" \
    --state "$name.state" --log "$name.csv" -o "$name.safetensors"
}

pamae() { # pamae NAME [OPTION...]
  kept "$1" "$BIN/pamae-encode" train "$dir/hearts/ecg.h5" \
    --steps "${PAMAE_STEPS:-1000}" --lr 2e-3 --warm-up 50 --batch 16 --validation 0.02 --validate-every 250 "${@:2}"
}

vae() { # vae NAME [OPTION...]
  kept "$1" "$BIN/amdf-sample" train --stage vae --cine "$dir/hearts/cine.h5" --frames 0 \
    --steps "${VAE_STEPS:-3000}" --lr 1.2e-3 --warm-up 100 --ema 0.998 --batch 1 \
    --validation 0.005 --validate-every 500 "${@:2}"
}

flow() { # flow WEIGHTS NAME [OPTION...]
  kept "$2" "$BIN/amdf-sample" train --stage flow --cine "$dir/hearts/cine.h5" --ecg "$dir/hearts/ecg.h5" --weights "$1" \
    --steps "${FLOW_STEPS:-4000}" --lr 1e-3 --warm-up 200 --ema 0.998 --batch 32 \
    --validation 0.01 --validate-every 1000 "${@:3}"
}
