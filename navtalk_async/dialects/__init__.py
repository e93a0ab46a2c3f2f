"""How each API speaks: questions into requests, answers into values; pure, with no `await`."""
