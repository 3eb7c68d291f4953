-- Open streams under their partners' terms: which may stay, which must go, how many there are.
--
-- `rules.judge(name)` gives the partner under whose terms a domain is allowed, or nil and why not;
-- `rules.settings()` the settings in force, or nil.

local st = require "util.stanza"

local sessions = module:shared("/*/s2s/sessions")
local log = module._log

local rules = {}
local streams = { closed = 0 }
local admissions = 0

function streams.obey(new_rules) rules = new_rules end

---------------------------------------------------------------- what a stream is

function streams.remote_of(session)
	if session.direction == "incoming" then return session.from_host end
	return session.to_host
end

function streams.partner_of(session)
	local remote = streams.remote_of(session)
	if not remote then return nil, "The stream does not say whose it is" end
	return rules.judge(remote)
end

local function is_established(session)
	return session.type == "s2sin" or session.type == "s2sout"
end

local function all()
	local list = {}
	for _, session in pairs(sessions) do
		if not session.destroyed then list[#list + 1] = session end
	end
	return list
end

function streams.certificate_is_valid(session)
	return session.cert_chain_status == "valid" and session.cert_identity_status == "valid"
end

---------------------------------------------------------------- terms

function streams.uses_tls(partner) return partner.sasl or partner.dialback_tls end

-- Whether the partner's methods contain this mechanism on a stream that is (not) encrypted.
function streams.permits(partner, mechanism, session)
	if mechanism == "EXTERNAL" then
		return partner.sasl and session.secure and streams.certificate_is_valid(session)
	elseif mechanism == "dialback" then
		if session.secure then return partner.dialback_tls end
		return partner.dialback_tcp
	end
	return false
end

local NOT_PERMITTED = {
	EXTERNAL = "SASL EXTERNAL is not used with this domain",
	dialback = "Dialback is not accepted on this stream",
}

-- Why `domain`, authenticated by `mechanism` on this stream, is not within its terms; nil if it is.
function streams.violation(session, domain, mechanism)
	local partner, why = rules.judge(domain)
	if not partner then return why end
	if not streams.permits(partner, mechanism, session) then
		return NOT_PERMITTED[mechanism] or "This way of authentication is not accepted"
	end
end

---------------------------------------------------------------- closing

function streams.refuse(session, text, condition)
	(session.log or log)("info", "Refusing the stream with %s: %s", streams.remote_of(session) or "an unnamed server", text)
	session:close({ condition = condition or "policy-violation", text = text }, nil, text)
	return true
end

-- Streams under negotiation are refused; those that carried something are closed, and counted.
local function close(session, text, condition)
	if session.type == "s2sin" or session.type == "s2sout" then streams.closed = streams.closed + 1 end
	streams.refuse(session, text, condition)
end

-- Notes how a stream was authenticated, and in which order streams came: the youngest go first.
function streams.admit(session, mechanism)
	if session.partner_admission then return end
	admissions = admissions + 1
	session.partner_admission, session.partner_mechanism = admissions, mechanism
end

-- Streams from before this module was loaded were not admitted by it.
local function mechanism_of(session)
	if session.partner_mechanism then return session.partner_mechanism end
	return session.external_auth == "succeeded" and "EXTERNAL" or "dialback"
end

-- Further domains on an inbound stream (XEP-0220 multiplexing) come and go without the stream.
local function recheck_multiplexed(session)
	for domain, host in pairs(session.hosts or {}) do
		if host.authed and domain ~= session.from_host and streams.violation(session, domain, "dialback") then
			host.authed = nil
			streams.closed = streams.closed + 1
		end
	end
end

local function recheck(session)
	local remote = streams.remote_of(session)
	if not remote then return end
	local partner, why = rules.judge(remote)
	if not partner then return close(session, why) end
	if not is_established(session) then return end -- the gate is still before it
	why = streams.violation(session, remote, mechanism_of(session))
	if why then return close(session, why) end
	if session.direction == "outgoing" and session.partner_admission and session.partner_route ~= partner.proxy then
		return close(session, "The route to this domain has changed", "reset")
	end
	if session.direction == "incoming" then recheck_multiplexed(session) end
end

---------------------------------------------------------------- limits

function streams.limit_of(partner)
	return partner.connection_limit or rules.settings().partner_connection_limit
end

function streams.count_inbound(partner, except)
	local count = 0
	for _, session in pairs(sessions) do
		if session ~= except and session.type == "s2sin" then
			local other = streams.partner_of(session)
			if other and other.domain == partner.domain then count = count + 1 end
		end
	end
	return count
end

function streams.count_all(except)
	local count = 0
	for _, session in pairs(sessions) do
		if session ~= except and is_established(session) then count = count + 1 end
	end
	return count
end

local function close_youngest(list, limit, text)
	table.sort(list, function(a, b) return (a.partner_admission or 0) < (b.partner_admission or 0) end)
	for index = limit + 1, #list do close(list[index], text, "resource-constraint") end
end

local function close_surplus()
	local by_partner = {}
	for _, session in ipairs(all()) do
		local partner = session.type == "s2sin" and streams.partner_of(session)
		if partner then
			local group = by_partner[partner.domain] or { partner = partner }
			by_partner[partner.domain] = group
			group[#group + 1] = session
		end
	end
	for _, group in pairs(by_partner) do
		close_youngest(group, streams.limit_of(group.partner), "This domain has too many streams")
	end
	local established = {}
	for _, session in ipairs(all()) do
		if is_established(session) then established[#established + 1] = session end
	end
	close_youngest(established, rules.settings().connection_limit, "There are too many streams")
end

---------------------------------------------------------------- the whole

-- Looks at every stream after something changed. Returns how many were closed.
function streams.enforce()
	local before = streams.closed
	for _, session in ipairs(all()) do
		-- Closing one stream may end another (a dialback that waited for it).
		if not session.destroyed then recheck(session) end
	end
	if rules.settings() then close_surplus() end
	return streams.closed - before
end

-- Partners with established streams: {domain, inbound, outbound}, at most `most` of them.
function streams.by_partner(most)
	local list, index = {}, {}
	for _, session in ipairs(all()) do
		local partner = is_established(session) and streams.partner_of(session)
		if partner then
			local entry = index[partner.domain]
			if not entry and #list < most then
				entry = { domain = partner.domain, inbound = 0, outbound = 0 }
				index[partner.domain] = entry
				list[#list + 1] = entry
			end
			if entry then
				local direction = session.direction == "incoming" and "inbound" or "outbound"
				entry[direction] = entry[direction] + 1
			end
		end
	end
	table.sort(list, function(a, b) return a.domain < b.domain end)
	return list
end

-- Answers a stanza that may not leave or enter. Errors, results and presence get no answer: nobody waits for one.
function streams.bounce(stanza, send, text)
	local kind = stanza.attr.type
	if stanza.attr.xmlns or kind == "error" or kind == "result" or stanza.name == "presence" or not stanza.attr.from then return end
	send(st.error_reply(stanza, "cancel", "policy-violation", text))
end

return streams
