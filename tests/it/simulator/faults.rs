//! Each way in which the server goes wrong on command.
