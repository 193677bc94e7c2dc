"""The command `learndyn flow`: gradient flow of a finite network, and what theory says of it."""
