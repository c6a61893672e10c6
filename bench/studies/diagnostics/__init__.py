"""What a mechanism's weights look like: `weights` takes them, `measures` says it in numbers."""
