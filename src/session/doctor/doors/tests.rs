//! Which doors are shut in places that this machine is not.
