-- proxy_fqdn: connect to the partner's proxy instead of what DNS says for its domain.
--
-- Only the address changes: the certificate is still checked against the partner's domain. mod_s2s
-- of 0.12.3 has no event for this, so the resolver it asks for is replaced; it asks by domain.

local basic = require "net.resolvers.basic"
local service = require "net.resolvers.service"

local PORT = 5269
local original

local function no_targets()
	return { next = function(_, callback) callback(nil) end }
end

local proxy = {}

function proxy.install(judge)
	original = service.new
	service.new = function(hostname, name, conn_type, extra)
		local partner = (name == "xmpp-server" or name == "xmpps-server") and judge(hostname)
		if not partner or not partner.proxy then return original(hostname, name, conn_type, extra) end
		if name == "xmpps-server" then return no_targets() end
		module:log("debug", "Connecting to %s for %s", partner.proxy, hostname)
		return basic.new(partner.proxy, PORT, conn_type, extra)
	end
end

function proxy.remove()
	if original then service.new = original end
end

function proxy.attach(m, streams)
	m:hook("s2sout-created", function(event)
		local partner = streams.partner_of(event.session)
		event.session.partner_route = partner and partner.proxy
	end)
end

return proxy
