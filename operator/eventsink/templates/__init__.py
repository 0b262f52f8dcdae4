"""Templates that tenants write, in Liquid: read, checked, and evaluated within bounds. Knows no destination."""
