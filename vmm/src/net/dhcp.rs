//! A server of DHCP for IPv4 (RFC 2131) with one address to give. Rorqual's own guest does not ask: it finds its address on its command
//! line.

use std::net::Ipv4Addr;

use super::network::{MTU, Network};
use super::wire::word;

/// Port of the server.
pub(crate) const SERVER_PORT: u16 = 67;
/// Port of the client.
pub(crate) const CLIENT_PORT: u16 = 68;
const FIXED_BYTES: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const LEASE_SECONDS: u32 = 86_400;

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACKNOWLEDGE: u8 = 5;
const REFUSE: u8 = 6;
const INFORM: u8 = 8;

/// The answer to a client's `message`, and whether it has an address to be answered at.
pub(crate) fn answer(message: &[u8], network: &Network) -> Option<Vec<u8>> {
    let fixed = message.get(..FIXED_BYTES)?;
    // A request over Ethernet.
    if fixed[..3] != [1, 1, 6] || message.get(FIXED_BYTES..FIXED_BYTES + 4)? != COOKIE {
        return None;
    }
    let options = &message[FIXED_BYTES + 4..];
    let given = network.v4.guest;
    let asked = |number| option(options, number).and_then(|value| <[u8; 4]>::try_from(value).ok()).map(Ipv4Addr::from);
    if asked(54).is_some_and(|server| server != network.v4.gateway) {
        return None;
    }
    let has = Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]);
    let kind = match option(options, 53)? {
        [DISCOVER] => OFFER,
        [REQUEST] if asked(50).unwrap_or(has) == given => ACKNOWLEDGE,
        [REQUEST] => REFUSE,
        [INFORM] => ACKNOWLEDGE,
        _ => return None,
    };
    let inform = option(options, 53)? == [INFORM];
    let mut reply = fixed.to_vec();
    reply[0] = 2;
    // Hops and seconds are the request's; what it has of names is not ours to repeat.
    reply[3] = 0;
    reply[16..].iter_mut().take(12).for_each(|byte| *byte = 0);
    reply[44..].fill(0);
    if !inform && kind != REFUSE {
        reply[16..20].copy_from_slice(&given.octets());
    }
    reply.extend(COOKIE);
    reply.extend([53, 1, kind, 54, 4]);
    reply.extend(network.v4.gateway.octets());
    if kind != REFUSE {
        if !inform {
            reply.extend([51, 4]);
            reply.extend(LEASE_SECONDS.to_be_bytes());
        }
        let mask = u32::MAX.checked_shl(32 - u32::from(network.v4.prefix)).unwrap_or(0);
        for (number, value) in
            [(1, mask.to_be_bytes()), (3, network.v4.gateway.octets()), (6, network.v4.gateway.octets())]
        {
            reply.extend([number, 4]);
            reply.extend(value);
        }
        reply.extend([26, 2]);
        reply.extend(MTU.to_be_bytes());
    }
    reply.push(255);
    Some(reply)
}

/// The value of an option.
fn option(mut options: &[u8], wanted: u8) -> Option<&[u8]> {
    loop {
        match options {
            [0, rest @ ..] => options = rest,
            [255, ..] | [_] | [] => return None,
            [number, length, rest @ ..] => {
                let value = rest.get(..usize::from(*length))?;
                if *number == wanted {
                    return Some(value);
                }
                options = &rest[value.len()..];
            }
        }
    }
}

/// Whether the answer goes to all, because the client has no address yet and asks for that.
pub(crate) fn wants_broadcast(message: &[u8]) -> bool {
    word(message, 10).is_some_and(|flags| flags & 0x8000 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::network::tests::network;

    fn request(options: &[u8]) -> Vec<u8> {
        let mut message = vec![0; FIXED_BYTES];
        message[..3].copy_from_slice(&[1, 1, 6]);
        message[4..8].copy_from_slice(b"xid.");
        message[28..34].copy_from_slice(b"client");
        message.extend(COOKIE);
        message.extend(options);
        message.push(255);
        message
    }

    #[test]
    fn the_one_address_is_offered_and_given() {
        let offer = answer(&request(&[53, 1, DISCOVER]), &network()).unwrap();
        assert_eq!((offer[0], &offer[4..8], &offer[16..20]), (2, &b"xid."[..], &[198, 19, 64, 2][..]));
        let options = &offer[FIXED_BYTES + 4..];
        assert_eq!(option(options, 53), Some(&[OFFER][..]));
        assert_eq!(option(options, 1), Some(&[255, 255, 255, 0][..]));
        assert_eq!(option(options, 3), Some(&[198, 19, 64, 1][..]));
        assert_eq!(option(options, 26), Some(&MTU.to_be_bytes()[..]));
        let given = answer(&request(&[53, 1, REQUEST, 50, 4, 198, 19, 64, 2]), &network()).unwrap();
        assert_eq!(option(&given[FIXED_BYTES + 4..], 53), Some(&[ACKNOWLEDGE][..]));
    }

    #[test]
    fn another_address_is_refused_and_another_servers_client_not_answered() {
        let refused = answer(&request(&[53, 1, REQUEST, 50, 4, 10, 0, 0, 7]), &network()).unwrap();
        assert_eq!(option(&refused[FIXED_BYTES + 4..], 53), Some(&[REFUSE][..]));
        assert_eq!(refused[16..20], [0; 4]);
        assert_eq!(answer(&request(&[53, 1, REQUEST, 54, 4, 10, 0, 0, 1]), &network()), None);
    }

    #[test]
    fn cut_off_messages_are_not_answered() {
        let whole = request(&[53, 1, DISCOVER]);
        for length in 0..whole.len() - 1 {
            assert_eq!(answer(&whole[..length], &network()), None, "{length}");
        }
        assert_eq!(answer(&request(&[50, 200, 1]), &network()), None);
    }
}
