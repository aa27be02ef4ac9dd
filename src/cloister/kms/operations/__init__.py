"""The operations: one module each, named as the API names it; ``cloister.kms.index`` lists them."""
