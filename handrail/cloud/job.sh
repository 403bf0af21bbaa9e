# What `handrail rent ssh` runs on the other machine, in the folder that one run has there.
# job/lock is held while the job runs; then job/exit has its exit code. out/log.txt is its output.

gpus() {
  nvidia-smi -L 2> /dev/null | grep -c ^GPU
}

case $1 in

look)  # look FOLDER PLACE PYTHON [--cpu]: say what is here, a name and a value per line
  shift
  lacks() { echo "lacks $1"; }
  nvidia-smi -L 2> /dev/null | grep -q ^GPU || [ -e /dev/kfd ] || [ "$4" ] ||
    lacks "a GPU that nvidia-smi lists. Train on its CPU with --cpu, or rent one with a GPU"
  for name in python3 python3.14 python3.13 python3.12 python3.11; do
    $name -c 'import ensurepip, venv, tomllib' 2> /dev/null && python=$name && break
  done
  [ "$python$3" ] || lacks "Python 3.11 or newer with venv: apt-get install -y python3-venv"
  [ -z "$3" ] || "$3" -c 'import importlib.util as util; [util.find_spec(name).name for name in
    ("torch", "transformers", "accelerate", "numpy")]' 2> /dev/null ||
    lacks "torch, transformers, accelerate and numpy in $3"
  for tool in rsync flock setsid; do
    command -v $tool > /dev/null || lacks "$tool: apt-get install -y rsync util-linux"
  done
  echo "gpus $(gpus)"
  echo "python ${3:-$python}"
  [ "$3" ] && echo "mode as-it-is" || echo "mode venv"
  cd "$1" 2> /dev/null || exit 0
  [ -e job/lock ] && { flock -sn job/lock true && echo "state over" || echo "state running"; }
  for file in exit fetched; do
    [ -e job/$file ] && echo "$file $(cat job/$file)"
  done
  echo "step $(ls "$2/checkpoints" 2> /dev/null | grep -x '[0-9]*' | tail -n 1)"
  ;;

start)  # start MODE PYTHON SCRIPT [--cpu]: run a script as a job that outlives the connection
  mkdir -p job
  flock -n job/lock rm -f job/pid
  shift
  setsid nohup sh out/job.sh run "$@" < /dev/null > /dev/null 2>&1 &
  for i in $(seq 50); do
    [ -s job/pid ] && break
    sleep 0.1
  done
  ;;

run)
  exec 9> job/lock && flock -w 5 9 || exit  # never two at once
  rm -f job/exit job/fetched
  exec > out/log.txt 2>&1
  echo $$ > job/pid
  trap : TERM  # is for the script: it saves, then ends
  mode=$2 python=$3
  shift 3
  setup() {
    [ "$mode" = venv ] || return 0
    venv=../venv-$(cksum < requirements.txt | cut -d ' ' -f 1)
    if [ ! -e "$venv/ready" ]; then
      echo "Setting up the packages, once; that takes minutes ..."
      "$python" -m venv "$venv" && "$venv/bin/pip" install -q -r requirements.txt || return
      touch "$venv/ready"
    fi
    python=$venv/bin/python
  }
  [ "$2" ] || [ "$(gpus)" -lt 2 ] ||
    set -- -m torch.distributed.run --nproc_per_node "$(gpus)" "$1"  # a process per GPU
  setup && PYTHONUNBUFFERED=1 "$python" "$@"
  code=$?
  [ $code = 1 ] && grep -q '^Stopped\. ' out/log.txt && code=130  # torchrun knows only 1
  echo $code > job/exit
  ;;

follow)  # show the end of the log, and what comes, until the job is over
  tail -n 20 -s 0.3 -F out/log.txt 2> /dev/null &
  flock -s job/lock true
  sleep 1
  kill $!
  ;;

stop)  # stop SCRIPT: ask the script to save and to end; torchrun itself is not asked
  pkill -TERM -s "$(cat job/pid)" -f "^[^ ]*python[^ ]* (-u )?$2" || kill -TERM "-$(cat job/pid)"
  ;;

esac
