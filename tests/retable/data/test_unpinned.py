import subprocess
import sys


def test_the_former_command_names_the_new_one(root):
    command = [sys.executable, "-m", "retable.data.unpinned", "cifar100", "x.tar.gz"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "retable: this command is now `retable data adopt NAME PATH`\n"
