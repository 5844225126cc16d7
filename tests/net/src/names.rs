//! A name server that knows one name (RFC 1035): every question for an address is answered with the bastion's.

use std::net::{Ipv4Addr, UdpSocket};

/// The fixed part of a message, in bytes.
const HEAD: usize = 12;

/// `names ADDRESS ANSWER`; prints `ready ADDRESS`.
pub(crate) fn main(arguments: &[String]) -> Result<(), String> {
    let [at, answer] = arguments else {
        return Err("ADDRESS ANSWER".to_owned());
    };
    let address: Ipv4Addr = answer.parse().map_err(|why| format!("{answer}: {why}"))?;
    let socket = UdpSocket::bind(at).map_err(|why| format!("{at}: {why}"))?;
    println!("ready {at}");
    let mut message = [0; 512];
    loop {
        let (count, from) = socket.recv_from(&mut message).map_err(|why| why.to_string())?;
        if let Some(reply) = reply(&message[..count], address) {
            socket.send_to(&reply, from).ok();
        }
    }
}

fn reply(message: &[u8], address: Ipv4Addr) -> Option<Vec<u8>> {
    let question = message.get(HEAD..)?;
    let name = question.iter().position(|&byte| byte == 0)? + 1;
    let kind = question.get(name..name + 2)?;
    let mut reply = message.get(..2)?.to_vec();
    // A response, authoritative, with recursion; one question, and one answer to a question for an IPv4 address.
    let answers = u8::from(kind == [0, 1]);
    reply.extend([0x85, 0x80, 0, 1, 0, answers, 0, 0, 0, 0]);
    reply.extend(question.get(..name + 4)?);
    if answers == 1 {
        // The name at offset 12, A, IN, for a second.
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        reply.extend(address.octets());
    }
    Some(reply)
}
