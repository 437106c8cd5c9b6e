mod network;
mod packets;
mod rules;
