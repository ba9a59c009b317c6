//! Models by name: fetched whole, once, and checked; whatever goes wrong is one sentence. Against a server on this machine that
//! speaks as much of the hub's protocol as a fetch needs.

mod case;
mod damaged;
mod fetch;
mod names;
mod network;
mod processes;
mod refused;
mod repository;
mod resumed;
mod retried;
mod server;
mod settings;
