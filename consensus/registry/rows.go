package registry

// The rows of which a snapshot may have very many, as encoding/json writes them: the members
// of each in the order of its struct, left out where its tags say so. A member that is
// forgotten here turns TestRowsAreAsJSON red.

func (p *pen) session(ses *Session) {
	p.say(`{"id":`)
	p.hex(ses.ID[:])
	p.say(`,"client":`)
	p.text(ses.Client)
	p.device(ses.Device)
	p.say(`,"request":`)
	p.hex(ses.Request[:])
	p.say(`,"key":`)
	p.hex(ses.Key[:])
	p.say(`,"identity":`)
	p.bytes(ses.Identity)
	p.say(`,"hello":`)
	p.bytes(ses.Hello)
	if ses.Certificate != nil {
		p.say(`,"certificate":`)
		p.certificate(ses.Certificate)
	}
	p.say(`,"leases":`)
	list(p, ses.Leases, (*pen).address)
	p.egress(ses)
	p.admitted(ses)
	p.say(`,"slices":`)
	list(p, ses.Slices, (*pen).slice)
	p.say(`,"retiring":`)
	list(p, ses.Retiring, (*pen).slice)
	p.say(`,"state":`)
	p.text(string(ses.State))
	p.say(`,"reason":`)
	p.text(ses.Reason)
	p.say(`,"opened":`)
	p.number(uint64(ses.Opened))
	p.say(`,"ended":`)
	p.number(uint64(ses.Ended))
	p.say(`,"bytes":`)
	p.number(ses.Bytes)
	p.holding(&ses.Holding)
	p.say("}")
}

// egress is how a session's packets leave.
func (p *pen) egress(ses *Session) {
	p.say(`,"egress":`)
	p.node(ses.Egress)
	p.say(`,"second":`)
	p.node(ses.Second)
	p.say(`,"egress_kind":`)
	p.text(string(ses.EgressKind))
}

// admitted is what a session was admitted with.
func (p *pen) admitted(ses *Session) {
	if !ses.Peer.IsZero() {
		p.say(`,"peer":`)
		p.node(ses.Peer)
	}
	p.say(`,"mode":`)
	p.text(string(ses.Mode))
	if ses.Shares != "" {
		p.say(`,"shares":`)
		p.text(string(ses.Shares))
	}
	if ses.SprayUDP {
		p.say(`,"spray_udp":true`)
	}
	p.say(`,"bandwidth":`)
	p.number(ses.Bandwidth)
	p.say(`,"policy":`)
	p.number(ses.Policy)
}

func (p *pen) device(id DeviceID) {
	if !id.IsZero() {
		p.say(`,"device":`)
		p.hex(id[:])
	}
}

func (p *pen) slice(sl *Slice) {
	p.say(`{"number":`)
	p.number(uint64(sl.Number))
	p.say(`,"epoch":`)
	p.number(uint64(sl.Epoch))
	p.say(`,"class":`)
	p.number(uint64(sl.Class))
	p.say(`,"suite":`)
	p.number(uint64(sl.Suite))
	p.say(`,"agent":`)
	p.node(sl.Agent)
	p.say(`,"boot":`)
	p.hex(sl.Boot[:])
	p.say(`,"spi":`)
	p.number(uint64(sl.SPI))
	p.say(`,"weight":`)
	p.number(uint64(sl.Weight))
	p.say(`,"spare":`)
	p.flag(sl.Spare)
	p.say(`,"state":`)
	p.text(string(sl.State))
	p.say(`,"index":`)
	p.number(sl.Index)
	p.say(`,"term":`)
	p.number(sl.Term)
	p.say(`,"since":`)
	p.number(uint64(sl.Since))
	p.say("}")
}

func (p *pen) holding(h *Holding) {
	if h.Tracked {
		p.say(`,"tracked":true`)
	}
	if len(h.Holders) > 0 {
		p.say(`,"holders":`)
		list(p, h.Holders, (*pen).holder)
	}
	if h.Blind != 0 {
		p.say(`,"blind":`)
		p.number(uint64(h.Blind))
	}
}

func (p *pen) holder(h *Holder) {
	p.say(`{"session":`)
	p.hex(h.Session[:])
	p.say(`,"agent":`)
	p.node(h.Agent)
	p.say(`,"boot":`)
	p.hex(h.Boot[:])
	if h.Until != 0 {
		p.say(`,"until":`)
		p.number(uint64(h.Until))
	}
	p.say("}")
}

func (p *pen) lease(l *Lease) {
	p.say(`{"client":`)
	p.text(l.Client)
	p.say(`,"session":`)
	p.hex(l.Session[:])
	p.say(`,"free":`)
	p.number(uint64(l.Free))
	p.device(l.Device)
	p.holding(&l.Holding)
	p.say("}")
}

func (p *pen) certificate(c *Certificate) {
	p.say(`{"id":`)
	p.hex(c.ID[:])
	p.say(`,"authority":`)
	p.text(c.Authority)
	p.say(`,"serial":`)
	p.text(c.Serial)
	if c.Client != "" {
		p.say(`,"client":`)
		p.text(c.Client)
	}
	p.say(`,"ends":`)
	p.signed(c.Ends)
	p.say(`,"revoked":`)
	p.flag(c.Revoked)
	p.say("}")
}

func (p *pen) client(c *Client) {
	p.say(`{"name":`)
	p.text(c.Name)
	p.say(`,"password_key":`)
	p.hex(c.PasswordKey[:])
	if c.SharedKey != nil {
		p.say(`,"shared_key":{"stored":`)
		p.bytes(c.SharedKey.Stored)
		p.say(`,"server":`)
		p.bytes(c.SharedKey.Server)
		p.say("}")
	}
	if c.Authority != "" {
		p.say(`,"authority":`)
		p.text(c.Authority)
	}
	p.say(`,"group":`)
	p.text(c.Group)
	p.say(`,"bandwidth":`)
	p.number(c.Bandwidth)
	p.say(`,"prefixes":`)
	list(p, c.Prefixes, (*pen).prefix)
	p.say(`,"revoked":`)
	p.flag(c.Revoked)
	p.say(`,"created":`)
	p.number(uint64(c.Created))
	p.say("}")
}

func (p *pen) command(c *AppliedCommand) {
	p.say(`{"id":`)
	p.hex(c.ID[:])
	p.say(`,"result":{`)
	if c.Result.Code != "" {
		p.say(`"code":`)
		p.text(string(c.Result.Code))
		p.say(",")
	}
	if c.Result.Detail != "" {
		p.say(`"detail":`)
		p.text(c.Result.Detail)
		p.say(",")
	}
	p.say(`"index":`)
	p.number(c.Result.Index)
	p.say(`,"term":`)
	p.number(c.Result.Term)
	if !c.Result.Node.IsZero() {
		p.say(`,"node":`)
		p.node(c.Result.Node)
	}
	if c.Result.Session != (SessionID{}) {
		p.say(`,"session":`)
		p.hex(c.Result.Session[:])
	}
	p.say("}}")
}
