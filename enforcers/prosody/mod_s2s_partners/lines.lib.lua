-- The lines of partners.jsonl: what each kind may say (docs/enforcement.md, section 1).
--
-- Functions return nil and a sentence when a line is refused.

local json = require "util.json"
local sha256 = require "util.hashes".sha256
local nameprep = require "util.encodings".stringprep.nameprep

local FORMAT = 1
local MAX_DELTA_LINES = 256

---------------------------------------------------------------- what a value may be

local function is_boolean(value) return type(value) == "boolean" end
local function is_true(value) return value == true end
local function is_text(value) return type(value) == "string" and value ~= "" end

local function is_integer_from(least)
	return function(value)
		return type(value) == "number" and value >= least and value % 1 == 0
	end
end

local function is_one_of(...)
	local allowed = {}
	for _, value in ipairs { ... } do allowed[value] = true end
	return function(value) return allowed[value] == true end
end

local function is_list_of(fits)
	return function(value)
		if type(value) ~= "table" or #value == 0 then return false end
		for _, item in ipairs(value) do
			if not fits(item) then return false end
		end
		return true
	end
end

-- The form in which mod_s2s looks a name up; another one would silently never match.
local function is_prepared(name)
	return nameprep(name) == name
end

local function is_prepared_name(value)
	return is_text(value) and is_prepared(value)
end

-- U-labels may have characters that are newer than nameprep. By such a name nobody can come here.
local function is_name(value)
	return is_text(value) and (is_prepared(value) or value:find("[\128-\255]") ~= nil)
end

local function is_file_name(value)
	return is_text(value) and not value:find("/", 1, true) and value:sub(1, 1) ~= "."
end

local is_method = is_one_of("SASL_OVER_TLS", "DIALBACK_OVER_TLS", "DIALBACK_OVER_TCP")

local function required(fits) return { fits = fits, required = true } end
local function optional(fits) return { fits = fits } end

local HEADER = {
	partnerd = required(is_integer_from(1)),
	generation = required(is_integer_from(0)),
	digest = required(is_text),
	partners = required(is_integer_from(0)),
	bytes = required(is_integer_from(0)),
}

local DELTA = {
	base = required(is_text),
	generation = required(is_integer_from(0)),
	digest = required(is_text),
	lines = required(is_integer_from(0)),
}

local REMOVAL = { remove = required(is_text) }

local SETTINGS = {
	mode = required(is_one_of("ALLOW_LISTED", "DENY_ALL", "ALLOW_ALL_EXCEPT_SUSPENDED")),
	connection_limit = required(is_integer_from(0)),
	partner_connection_limit = required(is_integer_from(0)),
	keep_alive_interval = required(is_integer_from(1)),
	stream_establishment_timeout = required(is_integer_from(1)),
	stream_inactivity_timeout = required(is_integer_from(1)),
	subscription_refresh_interval = required(is_integer_from(1)),
	message_body_logging_enabled = required(is_boolean),
	unlisted_methods = required(is_list_of(is_method)),
	staleness_lease = required(is_integer_from(1)),
	staleness_policy = required(is_one_of("KEEP", "DENY_ALL")),
	dialback_passphrase = optional(is_file_name),
}

local PARTNER = {
	domain = required(is_prepared_name),
	names = required(is_list_of(is_name)),
	methods = required(is_list_of(is_method)),
	partner_type = required(is_one_of("PUBLIC_UNVERIFIED", "PUBLIC_VERIFIED", "FEDERATED")),
	keep_alive_enabled = required(is_boolean),
	connection_limit = optional(is_integer_from(1)),
	proxy_fqdn = optional(is_text),
	suspended = optional(is_true),
	expire_time = optional(is_integer_from(0)),
}

-- An unknown key is refused: a rule that is not understood is not enforced.
local function checked(object, shape)
	for key, rule in pairs(shape) do
		local value = object[key]
		if value == nil then
			if rule.required then return nil, ("%q is missing"):format(key) end
		elseif not rule.fits(value) then
			return nil, ("%q has a value that is not allowed"):format(key)
		end
	end
	for key in pairs(object) do
		if not shape[key] then return nil, ("%q is not known here"):format(tostring(key)) end
	end
	return object
end

---------------------------------------------------------------- lines

local function decode(line, shape)
	local object = line and json.decode(line)
	if type(object) ~= "table" then return nil, "is not a JSON object" end
	if shape then return checked(object, shape) end
	return object
end

local function methods_of(names)
	local set = {}
	for _, name in ipairs(names) do set[name] = true end
	return {
		sasl = set.SASL_OVER_TLS == true,
		dialback_tls = set.DIALBACK_OVER_TLS == true,
		dialback_tcp = set.DIALBACK_OVER_TCP == true,
	}
end

-- A partner as the streams ask about it.
local function partner_from(object, line)
	local partner = methods_of(object.methods)
	partner.domain = object.domain
	partner.names = {}
	for _, name in ipairs(object.names) do
		if is_prepared(name) then partner.names[#partner.names + 1] = name end
	end
	partner.partner_type = object.partner_type
	partner.keep_alive = object.keep_alive_enabled
	partner.connection_limit = object.connection_limit
	partner.proxy = object.proxy_fqdn
	partner.suspended = object.suspended
	partner.expire_time = object.expire_time
	partner.line = line
	return partner
end

-- One line of a base or a delta: {kind, value, hash}.
local function parse_line(line)
	local object, err = decode(line)
	if not object then return nil, err end
	if object.domain ~= nil then
		object, err = checked(object, PARTNER)
		if not object then return nil, err end
		return { kind = "partner", value = partner_from(object, line), hash = sha256(line) }
	elseif object.mode ~= nil then
		object, err = checked(object, SETTINGS)
		if not object then return nil, err end
		return { kind = "settings", value = object, hash = sha256(line) }
	elseif object.remove ~= nil then
		object, err = checked(object, REMOVAL)
		if not object then return nil, err end
		return { kind = "removal", value = object.remove }
	end
	return nil, "is neither settings nor a partner nor a removal"
end

local function parse_header(line)
	local header, err = decode(line, HEADER)
	if not header then return nil, "the header: " .. err end
	if header.partnerd ~= FORMAT then
		return nil, ("the file has format %d, this module reads format %d"):format(header.partnerd, FORMAT)
	end
	return header
end

local function parse_delta_header(line)
	local delta, err = decode(line, DELTA)
	if not delta then return nil, "a delta's header: " .. err end
	if delta.lines > MAX_DELTA_LINES then
		return nil, ("a delta has %d lines; more than %d need a new base"):format(delta.lines, MAX_DELTA_LINES)
	end
	return delta
end

-- A partner's line that was accepted before.
local function decode_partner(line)
	return partner_from(json.decode(line), line)
end

return {
	parse_line = parse_line,
	parse_header = parse_header,
	parse_delta_header = parse_delta_header,
	decode_partner = decode_partner,
	methods_of = methods_of,
}
