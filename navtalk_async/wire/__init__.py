"""How bytes travel: one gate, patient attempts, bodies read whole, and the key added as they leave."""
