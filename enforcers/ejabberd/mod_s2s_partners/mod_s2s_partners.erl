%% mod_s2s_partners: ejabberd federates with the partners of partnerd, under their terms, as far as it can.
%%
%% What it reads, answers and promises stands in docs/enforcement.md. This module is the gate: the hooks
%% that streams run, and the commands. The set and its file are kept by s2s_partners_server.
%%
%% Fail closed: the configuration has `s2s_access: none`, and only this module, once it is started, opens
%% that door, to judge by itself who may pass. ejabberd does not start with a module that is not there.
%% A hook that crashes lets everybody pass, so every question to the server has a refusal for an answer.
-module(mod_s2s_partners).

-behaviour(gen_mod).

-include("ejabberd_commands.hrl").

-export([start/2, stop/1, reload/3, depends/2, mod_options/1, mod_opt_type/1, mod_doc/0]).
-export([apply_file/1, status/1, config_reloaded/0, is_closed_without_us/0]).
-export([allow_host/3, in_init/2, in_recv/3, in_authenticated/3, receive_packet/1]).
-export([out_init/2, out_recv/3, out_authenticated/2, out_downgraded/2, out_tls_verify/2]).
-export([recheck_in/2, recheck_out/2, violation/1]).

%% ------------------------------------------------------------------ the module

start(Host, Options) ->
    start_once(s2s_partners_streams, []),
    start_once(s2s_partners_server, [gen_mod:get_opt(file, Options)]),
    [ejabberd_hooks:add(Hook, Host, ?MODULE, Function, Priority) || {Hook, Function, Priority} <- hooks()],
    [ejabberd_hooks:add(Hook, ?MODULE, Function, Priority) || {Hook, Function, Priority} <- global_hooks()],
    ejabberd_commands:register_commands(commands()),
    open_door(Host).

stop(Host) ->
    close_door(Host),
    [ejabberd_hooks:delete(Hook, Host, ?MODULE, Function, Priority) || {Hook, Function, Priority} <- hooks()],
    case gen_mod:is_loaded_elsewhere(Host, ?MODULE) of
        true -> ok;
        false ->
            [ejabberd_hooks:delete(Hook, ?MODULE, Function, Priority) || {Hook, Function, Priority} <- global_hooks()],
            ejabberd_commands:unregister_commands(commands()),
            [stop_once(Name) || Name <- [s2s_partners_server, s2s_partners_streams]],
            close_streams()
    end,
    ok.

reload(Host, _New, _Old) ->
    open_door(Host).

depends(_Host, _Options) -> [].
%% The file may come after the server: until then everybody is refused.
mod_opt_type(file) -> econf:binary().
mod_options(_Host) -> [file].
mod_doc() -> #{desc => <<"Enforces the partners of partnerd.">>}.

%% One of each for all hosts.
start_once(Name, Arguments) ->
    Child = #{id => Name, start => {Name, start_link, Arguments}},
    case supervisor:start_child(ejabberd_gen_mod_sup, Child) of
        {ok, _} -> ok;
        {error, {already_started, _}} -> ok
    end.

stop_once(Name) ->
    supervisor:terminate_child(ejabberd_gen_mod_sup, Name),
    supervisor:delete_child(ejabberd_gen_mod_sup, Name).

hooks() ->
    [{s2s_allow_host, allow_host, 50},
     {s2s_in_handle_recv, in_recv, 10}, {s2s_in_auth_result, in_authenticated, 10}, {s2s_receive_packet, receive_packet, 10},
     {s2s_out_init, out_init, 90}, {s2s_out_handle_recv, out_recv, 10}, {s2s_out_auth_result, out_authenticated, 10},
     {s2s_out_downgraded, out_downgraded, 10}, {s2s_out_tls_verify, out_tls_verify, 90}].

global_hooks() ->
    [{s2s_in_init, in_init, 90}, {config_reloaded, config_reloaded, 10}].

%% ------------------------------------------------------------------ the door

%% The configuration says who may pass without us: nobody. A reload of it shuts the door for a moment.
open_door(Host) ->
    ejabberd_config:set_option({s2s_access, Host}, all),
    ok.

close_door(Host) ->
    ejabberd_config:set_option({s2s_access, Host}, none),
    ok.

config_reloaded() ->
    [open_door(Host) || Host <- ejabberd_config:get_option(hosts), gen_mod:is_loaded(Host, ?MODULE)],
    s2s_partners_server:apply_file(0),
    ok.

close_streams() ->
    [ejabberd_s2s_in:stop_async(Pid) || {_, Pid, _, _} <- supervisor:which_children(ejabberd_s2s_in_sup), is_pid(Pid)],
    [ejabberd_s2s_out:stop_async(Pid) || {_, Pid, _, _} <- supervisor:which_children(ejabberd_s2s_out_sup), is_pid(Pid)].

%% The option for all hosts is not touched by us: it says what the configuration says.
is_closed_without_us() ->
    ejabberd_config:get_option(s2s_access) =:= none.

%% ------------------------------------------------------------------ commands

commands() ->
    [#ejabberd_commands{name = s2s_partners_apply, tags = [s2s], module = ?MODULE, function = apply_file,
                        desc = "Put in force what is new in the partners file", args = [{heard, integer}], result = {res, restuple}},
     #ejabberd_commands{name = s2s_partners_status, tags = [s2s], module = ?MODULE, function = status,
                        desc = "Say which partners are in force", args = [{heard, integer}], result = {res, restuple}}].

apply_file(Heard) -> {ok, binary_to_list(s2s_partners_server:apply_file(Heard))}.

status(Heard) -> {ok, binary_to_list(s2s_partners_server:status(Heard))}.

%% ------------------------------------------------------------------ terms

is_permitted(external, #{sasl := Allowed}, IsEncrypted) -> Allowed andalso IsEncrypted;
is_permitted(dialback, #{dialback_tls := Allowed}, true) -> Allowed;
is_permitted(dialback, #{dialback_tcp := Allowed}, false) -> Allowed.

uses_tls(#{sasl := Sasl, dialback_tls := Tls}) -> Sasl orelse Tls.

is_encrypted(State) -> maps:get(stream_encrypted, State, false).

violation(Domain, Mechanism, State) -> violation({Domain, Mechanism, is_encrypted(State)}).

%% Why a domain that was authenticated so is not within its terms; `none` if it is.
-spec violation(s2s_partners_streams:claim()) -> none | binary().
violation({Domain, Mechanism, IsEncrypted}) ->
    case s2s_partners_server:judge(Domain) of
        {ok, Partner} ->
            case is_permitted(Mechanism, Partner, IsEncrypted) of
                true -> none;
                false when Mechanism =:= external -> <<"SASL EXTERNAL is not used with this domain">>;
                false -> <<"Dialback is not accepted on this stream">>
            end;
        {refused, Why} -> Why
    end.

allow_host(allow, _Host, Domain) ->
    case s2s_partners_server:judge(Domain) of
        {ok, _} -> allow;
        {refused, _} -> deny
    end;
allow_host(deny, _, _) -> deny.

refuse_in(Why, State) -> ejabberd_s2s_in:send(State, stream_error(Why)).
refuse_out(Why, State) -> ejabberd_s2s_out:send(State, stream_error(Why)).

stream_error(Why) ->
    case binary:match(Why, <<"too many">>) of
        nomatch -> xmpp:serr_policy_violation(Why, <<"en">>);
        _ -> xmpp:serr_resource_constraint(Why, <<"en">>)
    end.

%% ------------------------------------------------------------------ inbound

in_init({ok, State}, _Options) ->
    {ok, case s2s_partners_server:settings() of
             #{<<"stream_establishment_timeout">> := Seconds} -> xmpp_stream_in:set_timeout(State, Seconds * 1000);
             none -> State
         end};
in_init(Other, _Options) -> Other.

%% Every element of a stream that is not authenticated passes here first. An unlisted server is refused
%% at its first one, before ejabberd would tell it that EXTERNAL succeeded.
in_recv(#{stream_authenticated := true} = State, _Element, _Packet) -> State;
in_recv(State, {xmlel, Name, Attributes, _}, _Packet) ->
    case why_not(Name, claimed(Name, Attributes, State), State) of
        none -> State;
        Why -> {stop, refuse_in(Why, State)}
    end.

claimed(<<"db:result">>, Attributes, _) -> jid:nameprep(proplists:get_value(<<"from">>, Attributes, <<>>));
claimed(_, _, #{remote_server := Domain}) -> Domain;
claimed(_, Attributes, _) -> jid:nameprep(proplists:get_value(<<"from">>, Attributes, <<>>)).

why_not(_, Domain, _) when Domain =:= error; Domain =:= <<>> -> <<"The stream does not say whose it is">>;
why_not(<<"auth">>, Domain, State) -> violation(Domain, external, State);
why_not(<<"db:result">>, Domain, State) -> violation(Domain, dialback, State);
why_not(Name, Domain, _) ->
    case s2s_partners_server:judge(Domain) of
        {ok, Partner} when Name =:= <<"starttls">> ->
            case uses_tls(Partner) of
                true -> none;
                false -> <<"TLS is not used with this domain">>
            end;
        {ok, _} -> none;
        {refused, Why} -> Why
    end.

%% The last gate: every mechanism passes here, whatever was asked before.
in_authenticated(State, true, Domain) ->
    Mechanism = case State of
                    #{sasl_mech := _} -> external;
                    #{} -> dialback
                end,
    case violation(Domain, Mechanism, State) of
        none -> admit_in(Domain, Mechanism, State);
        Why -> {stop, refuse_in(Why, State)}
    end;
in_authenticated(State, false, _Domain) -> State.

admit_in(Domain, Mechanism, State) ->
    case s2s_partners_streams:admit(in, {Domain, Mechanism, is_encrypted(State)}, self()) of
        ok ->
            Mechanisms = maps:get(partner_mechanisms, State, #{}),
            State#{partner_mechanisms => Mechanisms#{Domain => Mechanism}};
        {refused, Why} -> {stop, refuse_in(Why, State)}
    end.

%% PUBLIC_UNVERIFIED: its users reach only those who have subscribed to them or whom they may see.
receive_packet({drop, _} = Dropped) -> Dropped;
receive_packet({Packet, State}) ->
    From = xmpp:get_from(Packet),
    To = xmpp:get_to(Packet),
    {_, FromHost, _} = jid:tolower(From),
    case s2s_partners_server:judge(FromHost) of
        {ok, #{type := <<"PUBLIC_UNVERIFIED">>}} ->
            case may_reach(From, To, Packet) of
                true -> {Packet, State};
                false ->
                    Error = xmpp:err_policy_violation(<<"You are not in this user's contact list">>, <<"en">>),
                    is_presence(Packet) orelse ejabberd_router:route_error(Packet, Error),
                    {stop, {drop, State}}
            end;
        {ok, _} -> {Packet, State};
        {refused, _} -> {stop, {drop, State}}
    end.

may_reach(From, To, Packet) ->
    {User, Host, _} = jid:tolower(To),
    User =:= <<>> orelse not ejabberd_router:is_my_host(Host)
        orelse lists:member(xmpp:get_type(Packet), [error, result])
        orelse (gen_mod:is_loaded(Host, mod_roster) andalso mod_roster:is_subscribed(From, To)).

is_presence(Packet) -> element(1, Packet) =:= presence.

%% Further domains on a stream (XEP-0220 multiplexing) come and go without it.
recheck_in(#{partner_mechanisms := _} = State, true) ->
    refuse_in(<<"There are too many streams">>, State);
recheck_in(#{partner_mechanisms := Mechanisms, remote_server := First} = State, false) ->
    Gone = [{Domain, Why} || {Domain, Mechanism} <- maps:to_list(Mechanisms),
                             Why <- [violation(Domain, Mechanism, State)], Why =/= none],
    case lists:keyfind(First, 1, Gone) of
        {First, Why} -> refuse_in(Why, State);
        false -> lists:foldl(fun without_domain/2, State, Gone)
    end;
recheck_in(#{remote_server := Domain} = State, _) ->
    case s2s_partners_server:judge(Domain) of
        {ok, _} -> State;
        {refused, Why} -> refuse_in(Why, State)
    end;
recheck_in(State, _) -> State.

without_domain({Domain, _Why}, #{auth_domains := Domains, partner_mechanisms := Mechanisms} = State) ->
    State#{auth_domains := sets:del_element(Domain, Domains), partner_mechanisms := maps:remove(Domain, Mechanisms)}.

%% ------------------------------------------------------------------ outbound

out_init({ok, State}, _Options) ->
    {ok, case s2s_partners_server:settings() of
             #{<<"stream_establishment_timeout">> := Seconds} -> xmpp_stream_out:set_timeout(State, Seconds * 1000);
             none -> State
         end};
out_init(Other, _Options) -> Other.

out_recv(#{stream_authenticated := true} = State, _Element, _Packet) -> State;
out_recv(#{remote_server := Domain} = State, {xmlel, _, _, _}, _Packet) ->
    case s2s_partners_server:judge(Domain) of
        {ok, _} -> State;
        {refused, Why} -> {stop, refuse_out(Why, State)}
    end;
out_recv(State, _Element, _Packet) -> State.

%% A stream that only carries the verification of somebody's key proves nothing and carries no stanzas.
out_authenticated(#{db_verify := _} = State, _Result) -> State;
out_authenticated(#{remote_server := Domain} = State, true) ->
    Mechanism = case State of
                    #{stream_authenticated := true} -> external;
                    #{} -> dialback
                end,
    case out_violation(Domain, Mechanism, State) of
        none -> admit_out(Domain, Mechanism, State);
        Why -> {stop, refuse_out(Why, State)}
    end;
out_authenticated(#{remote_server := Domain} = State, {false, _}) ->
    without_dialback_unless_permitted(Domain, State).

%% EXTERNAL proves the peer by its certificate, so without a valid one it proves nothing.
out_violation(Domain, external, State) ->
    case {violation(Domain, external, State), xmpp_stream_pkix:authenticate(State)} of
        {none, {ok, _}} -> none;
        {none, {error, _, _}} -> <<"Your server's certificate is not valid for its domain">>;
        {Why, _} -> Why
    end;
out_violation(Domain, dialback, State) -> violation(Domain, dialback, State).

admit_out(Domain, Mechanism, State) ->
    case s2s_partners_streams:admit(out, {Domain, Mechanism, is_encrypted(State)}, self()) of
        ok -> State#{partner_mechanisms => #{Domain => Mechanism}};
        {refused, Why} -> {stop, refuse_out(Why, State)}
    end.

out_downgraded(#{db_verify := _} = State, _Start) -> State;
out_downgraded(#{remote_server := Domain} = State, _Start) ->
    without_dialback_unless_permitted(Domain, State).

%% mod_s2s_dialback, which comes after, falls back to dialback where it is enabled.
without_dialback_unless_permitted(Domain, State) ->
    case violation(Domain, dialback, State) of
        none -> State;
        _ -> maps:remove(db_enabled, State)
    end.

%% Whether the peer's certificate must be valid before the stream goes on.
out_tls_verify(_, #{remote_server := Domain}) ->
    case s2s_partners_server:judge(Domain) of
        {ok, #{dialback_tls := true}} -> false;
        _ -> true
    end.

recheck_out(#{partner_mechanisms := Mechanisms} = State, IsSurplus) ->
    [{Domain, Mechanism}] = maps:to_list(Mechanisms),
    case {violation(Domain, Mechanism, State), IsSurplus} of
        {none, false} -> State;
        {none, true} -> refuse_out(<<"There are too many streams">>, State);
        {Why, _} -> refuse_out(Why, State)
    end;
%% It only bounces, for minutes, because of what was true before: the next stanza shall try again.
recheck_out(#{on_route := bounce} = State, _) ->
    ejabberd_s2s_out:stop_async(self()),
    State;
recheck_out(#{remote_server := Domain} = State, _) ->
    case s2s_partners_server:judge(Domain) of
        {ok, _} -> State;
        {refused, Why} -> refuse_out(Why, State)
    end;
recheck_out(State, _) -> State.
