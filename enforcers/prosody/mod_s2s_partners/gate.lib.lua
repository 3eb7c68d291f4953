-- The gate: what is offered, accepted and asked for while a stream is negotiated.
--
-- A partner's methods decide everything. Prosody's own modules do the work; these hooks run before
-- and after them, take away what the methods do not contain, and refuse what is left with no way.
-- The priorities in comments are those of mod_tls, mod_saslauth and mod_dialback.

local st = require "util.stanza"
local nameprep = require "util.encodings".stringprep.nameprep

local streams, settings

local XMLNS_STREAMS = "http://etherx.jabber.org/streams"
local XMLNS_SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
local XMLNS_TLS = "urn:ietf:params:xml:ns:xmpp-tls"
local XMLNS_DIALBACK_FEATURE = "urn:xmpp:features:dialback"
local XMLNS_STANZA_ERRORS = "urn:ietf:params:xml:ns:xmpp-stanzas"

-- mod_tls neither offers, accepts nor asks for STARTTLS on a connection that says it cannot.
local function withhold_tls(session)
	if session.conn then session.conn.starttls = false end
end

---------------------------------------------------------------- inbound

local function before_features(event)
	local session = event.origin
	if session.type ~= "s2sin_unauthed" then return end
	local partner, why = streams.partner_of(session)
	if not partner then return streams.refuse(session, why) end
	if session.secure then
		if not streams.uses_tls(partner) then return streams.refuse(session, "TLS is not used with this domain") end
	elseif not streams.uses_tls(partner) then
		withhold_tls(session)
	end
end

local function trimmed_feature(tag, session, partner)
	local xmlns = tag.attr.xmlns
	if xmlns == XMLNS_SASL then
		if not partner.sasl then
			session.external_auth = nil
			return nil
		end
	elseif xmlns == XMLNS_DIALBACK_FEATURE then
		if not streams.permits(partner, "dialback", session) then return nil end
	elseif xmlns == XMLNS_TLS and not partner.dialback_tcp and not tag:get_child("required") then
		return st.stanza("starttls", { xmlns = XMLNS_TLS }):tag("required"):up()
	end
	return tag
end

local function after_features(event)
	local session = event.origin
	local partner = session.type == "s2sin_unauthed" and streams.partner_of(session)
	if not partner then return end
	event.features:maptags(function(tag) return trimmed_feature(tag, session, partner) end)
end

-- Dialback, also for further domains on an authenticated stream.
local function on_dialback_result(event)
	local session, stanza = event.origin, event.stanza
	if session.type ~= "s2sin" and session.type ~= "s2sin_unauthed" then return end
	local domain = nameprep(stanza.attr.from or "")
	if not domain or domain == "" then return streams.refuse(session, "Dialback without a domain", "improper-addressing") end
	local why = streams.violation(session, domain, "dialback")
	if not why then return end
	session.log("info", "Refusing dialback for %s: %s", domain, why)
	session.sends2s(st.stanza("db:result", { from = stanza.attr.to, to = stanza.attr.from, type = "error" })
		:tag("error", { type = "cancel" })
			:tag("policy-violation", { xmlns = XMLNS_STANZA_ERRORS }):up()
			:tag("text", { xmlns = XMLNS_STANZA_ERRORS }):text(why))
	if session.type == "s2sin_unauthed" then streams.refuse(session, why) end
	return true
end

-- A stream without a version has no features, so nobody looked at it yet.
local function on_dialback_verify(event)
	local session, stanza = event.origin, event.stanza
	if session.type ~= "s2sin" and session.type ~= "s2sin_unauthed" then return end
	local domain = streams.remote_of(session) or nameprep(stanza.attr.from or "") or ""
	if not streams.partner_of { direction = "incoming", from_host = domain } then
		return streams.refuse(session, "Federation with this domain is not allowed")
	end
end

---------------------------------------------------------------- outbound

local function on_route(m)
	return function(event)
		local partner, why = streams.partner_of { direction = "outgoing", to_host = event.to_host }
		if partner then return end
		streams.bounce(event.stanza, function(reply) m:send(reply) end, why)
		return true
	end
end

-- Before mod_tls (500): is TLS wanted, and if it is needed, is it there?
local function on_features_before_tls(session, features)
	if session.type ~= "s2sout_unauthed" then return end
	local partner, why = streams.partner_of(session)
	if not partner then return streams.refuse(session, why) end
	if not streams.uses_tls(partner) then
		if session.secure then return streams.refuse(session, "TLS is not used with this domain") end
		withhold_tls(session)
	elseif not session.secure and not partner.dialback_tcp and not features:get_child("starttls", XMLNS_TLS) then
		return streams.refuse(session, "TLS is required but was not offered")
	end
	-- EXTERNAL proves the peer by its certificate, so without a valid one it proves nothing.
	if not streams.permits(partner, "EXTERNAL", session) then
		features:remove_children("mechanisms", XMLNS_SASL)
	end
end

-- Behind mod_saslauth (150), before mod_dialback (100): only dialback is left.
local function on_nothing_but_dialback(session)
	if session.type ~= "s2sout_unauthed" or session.external_auth == "attempting" then return end
	local why = streams.violation(session, session.to_host, "dialback")
	if why then return streams.refuse(session, why) end
end

local function on_legacy(event)
	return on_nothing_but_dialback(event.origin)
end

---------------------------------------------------------------- both

-- The last gate: every mechanism passes here, whatever was offered before.
local function on_authenticated(event)
	local session, domain, mechanism = event.session, event.host, event.mechanism
	local why = streams.violation(session, domain, mechanism)
	if why then return streams.refuse(session, why) end
	if session.type == "s2sin_unauthed" then
		local partner = streams.partner_of(session)
		if not partner then return streams.refuse(session, "Federation with this domain is not allowed") end
		if streams.count_inbound(partner, session) >= streams.limit_of(partner) then
			return streams.refuse(session, "This domain has too many streams", "resource-constraint")
		end
	end
	if session.type ~= "s2sin" and streams.count_all(session) >= settings().connection_limit then
		return streams.refuse(session, "There are too many streams", "resource-constraint")
	end
	streams.admit(session, mechanism)
end

-- After mod_s2s_auth_certs (509) has judged the certificate.
local function on_certificate(event)
	local session = event.session
	local partner, why = streams.partner_of(session)
	if partner and not streams.uses_tls(partner) then partner, why = nil, "TLS is not used with this domain" end
	if not partner then
		streams.refuse(session, why)
		return false
	end
	if not partner.dialback_tls and not streams.certificate_is_valid(session) then
		streams.refuse(session, "Your server's certificate is not valid for its domain", "not-authorized")
		return false
	end
end

local gate = {}

function gate.attach(m)
	m:hook("s2s-stream-features", before_features, 1000)
	m:hook("s2s-stream-features", after_features, -100)
	m:hook("stanza/jabber:server:dialback:result", on_dialback_result, 1000)
	m:hook("stanza/jabber:server:dialback:verify", on_dialback_verify, 1000)
	m:hook("route/remote", on_route(m), 1000)
	m:hook_tag(XMLNS_STREAMS, "features", on_features_before_tls, 600)
	m:hook_tag(XMLNS_STREAMS, "features", on_nothing_but_dialback, 140)
	m:hook_tag(XMLNS_SASL, "failure", on_nothing_but_dialback, 110)
	m:hook("s2sout-authenticate-legacy", on_legacy, 150)
	m:hook("s2s-authenticated", on_authenticated, 1000)
end

function gate.open(the_streams, the_settings)
	streams, settings = the_streams, the_settings
	module:hook("s2s-check-certificate", on_certificate, 400)
end

return gate
