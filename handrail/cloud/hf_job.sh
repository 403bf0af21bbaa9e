# What a job of Hugging Face runs: the script $0, on all GPUs of its machine
set -e
apt-get -qq update
apt-get -qq install -y rsync
cp -r /project /run-here
cd /run-here
pip install -q -r requirements.txt
python sync.py /kept -m torch.distributed.run --nproc_per_node gpu "$0"
