"""Which mechanism to take: answered from stored records."""
