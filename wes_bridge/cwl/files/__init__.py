"""Files as cwltool sees them: which a run may touch, how they are read, and where a step finds them."""
