//! A slow way between a laptop and its bastion: TCP connections whose bytes to the laptop are paced as Session Manager's agent does it.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::Bastion;

/// What the agent reads at once, in bytes.
const PIECE: usize = 1024;

/// How long it sleeps after each piece.
const PAUSE: Duration = Duration::from_millis(1);

/// Listens on loopback until it is dropped, and then cuts what it carries.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    carried: Mutex<Vec<Carried>>,
    /// Bytes to laptops.
    down: AtomicU64,
}

/// One connection: its two sockets, whether it still carries, and whether it swallows what it should carry.
struct Carried {
    sockets: [TcpStream; 2],
    open: Arc<AtomicBool>,
    swallows: Arc<AtomicBool>,
}

impl Shared {
    fn carried(&self) -> MutexGuard<'_, Vec<Carried>> {
        self.carried.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Carried {
    fn cut(&self) {
        for socket in &self.sockets {
            // Closed already is as good.
            socket.shutdown(Shutdown::Both).ok();
        }
    }
}

impl Relay {
    /// To the SSH server of a bastion; its laptops of local mode ([`super::Workshop::beside`]) take this way from now on.
    #[track_caller]
    pub(crate) fn before(bastion: &Bastion) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let (accepting, to) = (Arc::clone(&shared), bastion.ssh);
        std::thread::spawn(move || {
            for laptop in listener.incoming() {
                if accepting.stopped.load(Ordering::SeqCst) {
                    return;
                }
                if let (Ok(laptop), Ok(bastion)) = (laptop, TcpStream::connect(to)) {
                    carry(laptop, bastion, &accepting);
                }
            }
        });
        let ready = bastion.path("state/ready.json");
        let mut text: serde_json::Value = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
        text["ssh"] = address.to_string().into();
        std::fs::write(&ready, text.to_string()).unwrap();
        Relay { address, shared }
    }

    /// How many connections it carries now.
    pub(crate) fn open(&self) -> usize {
        self.lanes().len()
    }

    /// The connections that it carries, in the order in which they were made.
    pub(crate) fn lanes(&self) -> Vec<usize> {
        let carried = self.shared.carried();
        let open = carried
            .iter()
            .enumerate()
            .filter(|(_, carried)| carried.open.load(Ordering::SeqCst));
        open.map(|(index, _)| index).collect()
    }

    /// How many bytes went to laptops.
    pub(crate) fn down(&self) -> u64 {
        self.shared.down.load(Ordering::SeqCst)
    }

    /// Cuts one of them.
    pub(crate) fn cut(&self, index: usize) {
        self.shared.carried()[index].cut();
    }
}

impl Relay {
    /// What it carries now comes to nothing from here on, and neither end hears how the other one ends.
    pub(crate) fn swallow(&self) {
        for carried in self.shared.carried().iter() {
            carried.swallows.store(true, Ordering::SeqCst);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.shared.carried().iter().for_each(Carried::cut);
        // Wakes the accept loop, which then closes the listener.
        TcpStream::connect(self.address).ok();
    }
}

fn carry(laptop: TcpStream, bastion: TcpStream, shared: &Arc<Shared>) {
    for socket in [&laptop, &bastion] {
        socket.set_nodelay(true).unwrap();
    }
    let open = Arc::new(AtomicBool::new(true));
    let swallows = Arc::new(AtomicBool::new(false));
    let carried = Carried {
        sockets: [laptop.try_clone().unwrap(), bastion.try_clone().unwrap()],
        open: Arc::clone(&open),
        swallows: Arc::clone(&swallows),
    };
    shared.carried().push(carried);
    let (up, down) = ((laptop.try_clone().unwrap(), bastion.try_clone().unwrap()), (bastion, laptop));
    let (closed, swallowed) = (Arc::clone(&open), Arc::clone(&swallows));
    std::thread::spawn(move || {
        copy(up, 64 * 1024, &swallowed, |_| {});
        closed.store(false, Ordering::SeqCst);
    });
    let shared = Arc::clone(shared);
    std::thread::spawn(move || {
        copy(down, PIECE, &swallows, |count| {
            shared.down.fetch_add(count as u64, Ordering::SeqCst);
            std::thread::sleep(PAUSE);
        });
        open.store(false, Ordering::SeqCst);
    });
}

/// Passes bytes on until one of both is closed, and then closes the other; `after` hears of each piece's size.
fn copy((mut from, mut to): (TcpStream, TcpStream), piece: usize, swallows: &AtomicBool, after: impl Fn(usize)) {
    let mut buffer = vec![0; piece];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if !swallows.load(Ordering::SeqCst) && to.write_all(&buffer[..count]).is_err() {
            break;
        }
        after(count);
    }
    if swallows.load(Ordering::SeqCst) {
        return;
    }
    for socket in [from, to] {
        socket.shutdown(Shutdown::Both).ok();
    }
}
