"""Train and test a model: ``python run_recbole_ssm.py --model=SSD4Rec --dataset=ml-100k``. ``--help`` says more."""

from recbole_ssm.cli.main import program

if __name__ == "__main__":
    program()
