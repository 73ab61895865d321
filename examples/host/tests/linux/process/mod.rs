//! byway as a process: its life, what is installed with it, its queues, portions and reports.

mod dist;
mod life;
mod portions;
mod queues;
mod reports;
mod routes;
mod take_over;
