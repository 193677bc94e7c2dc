"""`learndyn tasks`: several tasks, one after another or interleaved."""
