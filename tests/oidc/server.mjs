// A real OpenID provider on loopback: access tokens as JWTs by client credentials, with roles.
//
//   node server.mjs [PORT]        prints "listening PORT"
//
// It has two clients, `viewer` and `admin`, each with the secret `secret` and the role of its name.
// POST /test/rotate replaces the signing key at once; with ?keep it publishes the old one besides.

import { generateKeyPair, randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { promisify } from "node:util";

import { Provider } from "oidc-provider";

const RESOURCE = "urn:partnerd";
const ROLES = { viewer: ["viewer"], admin: ["CsAdministrator"] };

const server = createServer();
let keys = [await newKey()];
let answer;

server.listen(Number(process.argv[2] ?? 0), "127.0.0.1", () => {
  answer = provider();
  console.log(`listening ${server.address().port}`);
});

server.on("request", async (request, response) => {
  const url = new URL(request.url, "http://localhost");
  if (request.method === "POST" && url.pathname === "/test/rotate") {
    keys = [await newKey(), ...(url.searchParams.has("keep") ? keys : [])];
    answer = provider();
    response.end();
    return;
  }
  answer(request, response);
});

async function newKey() {
  const { privateKey } = await promisify(generateKeyPair)("ec", { namedCurve: "P-256" });
  return { ...privateKey.export({ format: "jwk" }), kid: randomUUID(), use: "sig", alg: "ES256" };
}

// The provider reads its keys once, so new keys are a new provider.
function provider() {
  const client = (id) => ({
    client_id: id,
    client_secret: "secret",
    grant_types: ["client_credentials"],
    redirect_uris: [],
    response_types: [],
    id_token_signed_response_alg: "ES256",
  });
  return new Provider(`http://localhost:${server.address().port}`, {
    clients: Object.keys(ROLES).map(client),
    jwks: { keys },
    cookies: { keys: [randomUUID()] },
    extraTokenClaims: (_context, token) => ({ roles: ROLES[token.clientId] }),
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => RESOURCE,
        getResourceServerInfo: () => ({
          scope: "",
          audience: "partnerd",
          accessTokenFormat: "jwt",
          accessTokenTTL: 600,
          jwt: { sign: { alg: "ES256" } },
        }),
      },
    },
  }).callback();
}
