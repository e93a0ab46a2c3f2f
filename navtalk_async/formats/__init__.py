"""How a store is handed on: files, one format beside the other, and a manifest that vouches for them."""
