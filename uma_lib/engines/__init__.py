"""Where language models run: protocol, chat format, the engines themselves, models as files."""
