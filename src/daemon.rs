//! The daemon: what the rooms below are wired to.

mod memory_plan;

pub use memory_plan::{MemoryPlan, Place, place_of};
