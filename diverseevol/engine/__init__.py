"""Everything that touches a model or a device, and the only importer of Lightning."""
