//! One line of `status` for each listener.

use einhorn_proto::{ListenerStatus, QueueStatus, SlotListenerStatus};

use super::fact;
use crate::table::{Line, Span, Style};

/// Shows the address and the queue of a listener, with its drops and the slots that get no new connections.
pub(super) fn listener_line(listener: &ListenerStatus) -> Line {
    let ListenerStatus { fd, name, address, backlog, slots, .. } = listener;
    let mut text = format!("{address}, fd {fd}, name {name}");
    if !slots.is_empty() {
        text.push_str(", one for each slot");
    }
    match queue_words(listener) {
        Some(words) => text.push_str(&format!(", queue {words}")),
        None if *backlog > 0 => text.push_str(&format!(", backlog {backlog}")),
        None => {}
    }
    let mut line = fact("listens", &text);
    line.extend(trouble(listener));
    line
}

/// How full the queue is, and of what.
pub(in crate::commands) fn queue_words(listener: &ListenerStatus) -> Option<String> {
    let QueueStatus { length, limit, .. } = listener.queue?;
    let unit = if is_packets(listener) { " bytes" } else { "" };
    Some(format!("{length} of {limit}{unit}"))
}

/// What is wrong with a listener.
pub(in crate::commands) fn trouble(listener: &ListenerStatus) -> Line {
    let mut line = Line::new();
    if let Some(drops) = listener.queue.and_then(|queue| queue.drops).filter(|drops| *drops > 0) {
        let what = if is_packets(listener) { "packets lost" } else { "overflows" };
        line.push(Span::new(&format!(", {drops} {what}"), Style::Bad));
    }
    if let Some(text) = left_out(&listener.slots) {
        line.push(Span::new(&format!(", {text}"), Style::Busy));
    }
    line
}

fn is_packets(listener: &ListenerStatus) -> bool {
    listener.kind == "udp"
}

/// The slots that get no new connections, and what still waits for them.
fn left_out(slots: &[SlotListenerStatus]) -> Option<String> {
    let left_out: Vec<_> = slots.iter().filter(|slot| !slot.live).collect();
    let numbers: Vec<_> = left_out.iter().map(|slot| slot.slot.to_string()).collect();
    let text = match &numbers[..] {
        [] => return None,
        [number] => format!("slot {number} gets nothing new"),
        numbers => format!("slots {} get nothing new", numbers.join(", ")),
    };
    let waiting: u32 = left_out.iter().filter_map(|slot| slot.queue).map(|queue| queue.length).sum();
    Some(if waiting > 0 { format!("{text} ({waiting} in the queue)") } else { text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::paint;

    fn queue(length: u32, limit: u32, drops: Option<u32>) -> Option<QueueStatus> {
        Some(QueueStatus { length, limit, drops })
    }

    fn tcp() -> ListenerStatus {
        ListenerStatus {
            index: 0,
            fd: 3,
            name: "web".into(),
            address: "0.0.0.0:8080".into(),
            kind: "tcp".into(),
            family: "AF_INET".into(),
            backlog: 4096,
            queue: queue(3, 4096, Some(0)),
            slots: Vec::new(),
        }
    }

    fn shown(listener: &ListenerStatus) -> String {
        paint(&[listener_line(listener)], None, false)
    }

    #[test]
    fn each_kind_of_listener_tells_how_full_it_is() {
        let udp = ListenerStatus {
            address: "udp:[::1]:53".into(),
            kind: "udp".into(),
            backlog: 0,
            queue: queue(768, 212_992, Some(9)),
            ..tcp()
        };
        let unix = ListenerStatus {
            address: "unix:/run/web.sock".into(),
            kind: "unix".into(),
            queue: queue(0, 128, None),
            ..tcp()
        };
        for (listener, line) in [
            (
                ListenerStatus { queue: queue(129, 128, Some(17)), ..tcp() },
                "listens   0.0.0.0:8080, fd 3, name web, queue 129 of 128, 17 overflows\n",
            ),
            (
                ListenerStatus { queue: None, ..tcp() },
                "listens   0.0.0.0:8080, fd 3, name web, backlog 4096\n",
            ),
            (
                ListenerStatus { queue: queue(0, 212_992, Some(0)), ..udp.clone() },
                "listens   udp:[::1]:53, fd 3, name web, queue 0 of 212992 bytes\n",
            ),
            (udp, "listens   udp:[::1]:53, fd 3, name web, queue 768 of 212992 bytes, 9 packets lost\n"),
            (unix, "listens   unix:/run/web.sock, fd 3, name web, queue 0 of 128\n"),
        ] {
            assert_eq!(shown(&listener), line);
        }
    }

    #[test]
    fn slots_that_get_nothing_new_show() {
        let slot =
            |slot, live, length| SlotListenerStatus { slot, live, queue: queue(length, 4096, Some(0)) };
        let of = |slots| shown(&ListenerStatus { queue: queue(9, 12_288, Some(0)), slots, ..tcp() });
        let line = "listens   0.0.0.0:8080, fd 3, name web, one for each slot, queue 9 of 12288";
        assert_eq!(of(vec![slot(0, true, 4), slot(1, true, 5)]), format!("{line}\n"));
        assert_eq!(
            of(vec![slot(0, true, 4), slot(1, false, 0)]),
            format!("{line}, slot 1 gets nothing new\n")
        );
        assert_eq!(
            of(vec![slot(0, true, 4), slot(1, false, 0), slot(4, false, 5)]),
            format!("{line}, slots 1, 4 get nothing new (5 in the queue)\n")
        );
    }
}
