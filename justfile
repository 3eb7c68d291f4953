# The commands of every day. `just` alone lists them; none hides anything that cannot be typed.

_default:
    @just --list

# A development server in ./partnerd-data
serve:
    cargo run --release -- serve --dev

# What CI runs: every gate
gates:
    bash .ci/run

# The tests, or those whose names contain TEXT
test TEXT="":
    cargo test {{TEXT}}

# Format, and say what clippy thinks
tidy:
    cargo fmt
    cargo clippy --all-targets -- -D warnings

# The documentation, in a browser
doc:
    cargo doc --no-deps --open

# Accept the snapshots that changed, after looking at the diff
snapshots:
    INSTA_UPDATE=always cargo test
    git diff --stat -- '*.snap' '*.rs'

# All measurements, and the table of goals on docs/performance.md; or one of them: `just bench peers quick`
bench NAME="goals" *ARGUMENTS:
    cargo bench --bench {{NAME}} -- {{ARGUMENTS}}
