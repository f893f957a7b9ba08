"""What this machine and this build of llama.cpp can do, each finding with its fix. Nothing here changes anything."""
