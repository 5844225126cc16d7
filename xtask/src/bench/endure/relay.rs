//! The way between laptops and bastion, which can be cut: TCP, and a reset in place of an end.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::chance::Chance;

/// A thread's stack, in bytes: there are two for each connection.
const STACK: usize = 256 * 1024;

/// Bytes passed on at a time.
const PIECE: usize = 64 * 1024;

pub(super) struct Relay {
    carried: Arc<Mutex<Vec<Carried>>>,
}

/// Both sockets of one connection; whoever ends it takes it out of the list.
struct Carried {
    number: u64,
    sockets: [TcpStream; 2],
}

impl Carried {
    fn end(&self) {
        for socket in &self.sockets {
            // It may be over already.
            socket.shutdown(Shutdown::Both).ok();
        }
    }
}

impl Relay {
    /// Listens for as long as this process lives.
    pub(super) fn start(at: SocketAddr, to: SocketAddr) -> Result<Relay, String> {
        let listener = TcpListener::bind(at).map_err(|why| format!("the relay on {at}: {why}"))?;
        let carried = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&carried);
        let accept = move || {
            for (number, laptop) in (0..).zip(listener.incoming()) {
                if let Ok(laptop) = laptop
                    && let Ok(bastion) = TcpStream::connect(to)
                {
                    // One that cannot be carried is closed, as a way that is down does.
                    carry(number, laptop, bastion, &list).ok();
                }
            }
        };
        thread::Builder::new()
            .spawn(accept)
            .map_err(|why| format!("the relay: {why}"))?;
        Ok(Relay { carried })
    }

    /// Cuts one connection in so many, at least one; how many there were and were cut.
    pub(super) fn cut(&self, one_in: u64, chance: &mut Chance) -> (usize, usize) {
        let carried = self.carried.lock().unwrap_or_else(PoisonError::into_inner);
        let first = chance.below(carried.len() as u64) as usize;
        let mut cut = 0;
        for (place, carried) in carried.iter().enumerate() {
            if place == first || chance.below(one_in) == 0 {
                carried.end();
                cut += 1;
            }
        }
        (carried.len(), cut)
    }
}

fn carry(number: u64, laptop: TcpStream, bastion: TcpStream, list: &Arc<Mutex<Vec<Carried>>>) -> std::io::Result<()> {
    laptop.set_nodelay(true)?;
    bastion.set_nodelay(true)?;
    let carried = Carried {
        number,
        sockets: [laptop.try_clone()?, bastion.try_clone()?],
    };
    list.lock().unwrap_or_else(PoisonError::into_inner).push(carried);
    let ways = [(laptop.try_clone()?, bastion.try_clone()?), (bastion, laptop)];
    for (mut from, mut to) in ways {
        let list = Arc::clone(list);
        let pass = move || {
            let mut piece = vec![0; PIECE];
            while let Ok(count @ 1..) = from.read(&mut piece) {
                if to.write_all(&piece[..count]).is_err() {
                    break;
                }
            }
            let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
            list.retain(|carried| {
                let other = carried.number != number;
                if !other {
                    carried.end();
                }
                other
            });
        };
        thread::Builder::new().stack_size(STACK).spawn(pass)?;
    }
    Ok(())
}
