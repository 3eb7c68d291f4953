-- Prosody hands every module these two; everything else must be local.
std = "lua54"
max_line_length = 140
read_globals = { "prosody" }
globals = { "module" }
