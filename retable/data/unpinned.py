"""The former name of `retable data adopt`."""

if __name__ == "__main__":
    raise SystemExit("retable: this command is now `retable data adopt NAME PATH`")
