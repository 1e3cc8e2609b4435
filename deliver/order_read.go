package deliver

import "slices"

// What a lane knows of its lines in the books, and how it learns the rest.

func (o *order) left(event int64) {
	key, ok := o.leaves[event]
	if !ok {
		return
	}
	delete(o.leaves, event)
	if l := o.lines[key]; l != nil {
		l.leaving--
		l.fallBehind(event)
		o.tidy(l)
	}
}

func (o *order) dropped(event int64) (unknown bool) {
	l := o.blockers[event]
	if l == nil {
		return o.more
	}
	o.blockWith(l, Place{})
	l.fallBehind(event + 1)
	o.tidy(l)
	return false
}

func (o *order) adopt(key, event int64, held bool) {
	if _, ok := o.leaves[event]; ok {
		return
	}
	l := o.line(key)
	if held {
		o.leaves[event] = key
		l.leave(event)
		return
	}
	l.fallBehind(event)
	o.tidy(l)
}

func (o *order) look(now int64, held map[int64]int) {
	before := now - overdueAfter.Milliseconds()
	if o.rest || o.more && o.begun < now-beginAgain.Milliseconds() {
		o.known = false
	}
	for _, l := range o.lines {
		if _, inMemory := held[l.blocker.Event]; l.blocker.Due != 0 && l.blocker.Due < before && !inMemory {
			o.blockWith(l, Place{})
			l.fallBehind(0)
			o.tidy(l)
		}
	}
}

func (o *order) tidy(l *lineState) {
	switch {
	case l.behind && (l.blocker == Place{} || l.mark <= l.blocker.Event) && (len(l.waiting) == 0 || l.mark <= l.waiting[0].Event):
		o.hunger(l)
	case l.idle() && !l.behind && l.blocker == Place{}:
		delete(o.lines, l.key)
	}
}

func (o *order) released(event int64, held map[int64]int) {
	l := o.blockers[event]
	if key, ok := o.leaves[event]; ok {
		l = o.lines[key]
		o.left(event)
	}
	if l != nil && l.elsewhere && l.blocker.Event == event {
		o.blockWith(l, Place{})
		l.fallBehind(event)
		o.tidy(l)
	}
	if l == nil || !l.idle() || l.blocker == (Place{}) || len(o.lines) <= o.most.lines {
		return
	}
	if _, inMemory := held[l.blocker.Event]; !inMemory {
		o.blockWith(l, Place{})
		delete(o.lines, l.key)
		o.more = true
	}
}

func (o *order) hunger(l *lineState) {
	if !l.listed {
		l.listed = true
		o.hungry = append(o.hungry, l)
	}
}

func (o *order) hungriest() (l *lineState, from int64) {
	for i, l := range o.hungry {
		if o.waiting < o.most.waiting || len(l.waiting) > 0 {
			o.hungry = slices.Delete(o.hungry, i, i+1)
			l.listed = false
			return l, l.mark
		}
	}
	return nil, 0
}

func (o *order) begin(heads []LineHead, held map[int64]int, now int64) {
	o.known, o.more, o.begun = true, len(heads) > o.most.lines, now
	o.rest = o.more && heads[len(heads)-1].Due == HeldBack
	for _, h := range heads {
		l := o.lines[h.Line.Key]
		if l == nil {
			l = &lineState{key: h.Line.Key}
			o.lines[h.Line.Key] = l
		}
		if _, inMemory := held[h.Event]; inMemory || h.Due == HeldBack {
			l.fallBehind(0)
		} else {
			l.fallBehind(h.Event + 1)
			o.block(l, h.Place)
		}
	}
	for _, l := range o.lines {
		o.tidy(l)
	}
}

func (o *order) read(l *lineState, from int64, rows []Ticket, held map[int64]int, ended map[int64]bool, now int64) (taken []Ticket) {
	if !l.behind || l.mark != from {
		o.tidy(l) // it changed meanwhile
		return nil
	}
	l.behind = len(rows) == o.most.rows
	l.mark = from
	for _, t := range rows {
		l.mark = t.Event + 1
		if _, inMemory := held[t.Event]; inMemory {
			if !ended[t.Event] && !o.has(l, t.Event) {
				o.block(l, t.Place())
				l.elsewhere = l.elsewhere || l.blocker.Event == t.Event
			}
			continue
		}
		if t.Due != HeldBack && t.Due > now {
			l.fallBehind(l.mark)
			o.block(l, t.Place())
			break
		}
		if o.waiting >= o.most.waiting && len(taken) > 0 {
			l.behind, l.mark = true, t.Event
			break
		}
		if l.blocker.Event == t.Event {
			o.blockWith(l, Place{})
		}
		o.wait(l, t)
		taken = append(taken, t)
	}
	if l.blocker != (Place{}) {
		o.expel(l, l.blocker.Event)
	}
	o.tidy(l)
	return taken
}

func (o *order) has(l *lineState, event int64) bool {
	_, flies := o.flights[event]
	return flies || l.blocker.Event == event || l.leaving > 0 && event >= l.first ||
		slices.ContainsFunc(l.waiting, func(t Ticket) bool { return t.Event == event })
}

func (o *order) forget() (dropped []Ticket) {
	for _, l := range o.active {
		dropped = append(dropped, l.waiting...)
		l.waiting = nil
	}
	for _, c := range o.out {
		dropped = append(dropped, c.ticket)
		o.lines[c.line.Key].leaving--
	}
	for key, l := range o.lines {
		if l.flying == 0 || l.blocker.Event != l.flying {
			o.blockWith(l, Place{}) // the books have it
		}
		l.behind, l.mark, l.listed = true, 0, false
		if l.flying == 0 && l.leaving == 0 {
			delete(o.lines, key)
		}
	}
	o.active, o.out, o.hungry, o.waiting = nil, nil, nil, 0
	o.known, o.more = false, false
	return dropped
}
