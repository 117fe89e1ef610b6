"""Who works on an execution: backends (`backend` holds the contract), workers, engines; and how far they are."""
