// A real OpenID provider (npm oidc-provider) for tests, started by provider.py. It has
// - clients alice and bob: client credentials, signed and opaque access tokens, introspection;
// - client user-cli, which is public: device codes, refresh tokens that are good once;
// - clients wes-bridge and node: may exchange users' tokens that are for them for those of other audiences
//   (RFC 8693).
// Tests change it: POST /test/rotate makes new keys (?drop=1 forgets the old ones, ?alg= signs with another
// algorithm), POST /test/control sets ?life= of access tokens, the one ?group= that users are in (empty: tokens
// say nothing of groups) and which audiences to ?forbid= and ?allow=, and answers with the audiences for which
// tokens were exchanged.
import { createRequire } from 'node:module';
import { generateKeyPairSync } from 'node:crypto';
import { pathToFileURL } from 'node:url';
import http from 'node:http';

const require = createRequire(pathToFileURL(process.env.MODULES + '/'));
const load = (name) => import(pathToFileURL(require.resolve(name)));
const { Provider, errors } = await load('oidc-provider');
const { createLocalJWKSet, jwtVerify } = await load('jose');

const DEVICE_CODE = 'urn:ietf:params:oauth:grant-type:device_code';
const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';
const SCOPE = 'openid offline_access wes-service other';
const OURS = 'wes-bridge';

// ---- what tests change

const kinds = { RS256: ['rsa', { modulusLength: 2048 }], ES256: ['ec', { namedCurve: 'P-256' }] };
function newKey(alg) {
  const [kind, options] = kinds[alg];
  const { privateKey } = generateKeyPairSync(kind, options);
  return { ...privateKey.export({ format: 'jwk' }), alg, use: 'sig', kid: `${alg}-${Date.now()}-${Math.random()}` };
}

let keys = [newKey('RS256'), newKey('ES256')];
let alg = 'RS256';
let life = Number(process.env.TTL ?? 600);
let group = '';
let issuer;
const forbidden = new Set();
const exchanged = [];

// ---- audiences

function resourceServer(audience, format = 'jwt') {
  return { audience, scope: SCOPE, accessTokenFormat: format, accessTokenTTL: life, jwt: { sign: { alg } } };
}

function knownResource(name) {
  switch (name) {
    case 'urn:x:jwt':
      return resourceServer(OURS);
    case 'urn:x:opaque':
      return resourceServer(OURS, 'opaque');
    case 'urn:x:other':
      return resourceServer('other-service');
    default:
      throw new errors.InvalidTarget();
  }
}

// ---- exchange: who shows a user's token for us gets one of the same user for somebody else

async function userOf(token, audience) {
  const shown = keys.map(({ kty, n, e, crv, x, y, kid, alg }) => ({ kty, n, e, crv, x, y, kid, alg }));
  try {
    const { payload } = await jwtVerify(token, createLocalJWKSet({ keys: shown }), { issuer, audience });
    return payload;
  } catch (error) {
    throw new errors.InvalidGrant(`the subject_token is not good: ${error.message}`);
  }
}

async function exchange(context) {
  const { client, params, provider } = context.oidc;
  if (params.subject_token_type !== ACCESS_TOKEN) {
    throw new errors.InvalidRequest(`the subject_token_type must be ${ACCESS_TOKEN}`);
  }
  const user = await userOf(params.subject_token, client.clientId);
  const audience = params.audience ?? params.resource;
  if (!audience || forbidden.has(audience)) {
    throw new errors.InvalidTarget();
  }
  const token = new provider.AccessToken({
    client,
    accountId: user.sub,
    scope: params.scope ?? user.scope,
  });
  token.resourceServer = new provider.ResourceServer(audience, resourceServer(audience));
  context.oidc.entity('AccessToken', token);
  context.body = {
    access_token: await token.save(),
    issued_token_type: ACCESS_TOKEN,
    token_type: 'Bearer',
    expires_in: token.expiration,
    scope: token.scope,
  };
  exchanged.push(audience);
}

// ---- the provider; a new one for new keys, which forgets who has logged in

function client(name, grants, settings) {
  return { client_id: name, grant_types: grants, redirect_uris: [], response_types: [], ...settings };
}

function newProvider() {
  const made = new Provider(issuer, {
    jwks: { keys },
    cookies: { keys: ['not a secret'] },
    clients: [
      ...['alice', 'bob'].map((name) =>
        client(name, ['client_credentials'], { client_secret: `${name}-secret` }),
      ),
      client('user-cli', [DEVICE_CODE, 'refresh_token'], { token_endpoint_auth_method: 'none' }),
      client(OURS, [TOKEN_EXCHANGE, 'refresh_token'], { client_secret: 'wbsecret' }),
      client('node', [TOKEN_EXCHANGE], { client_secret: 'wbsecret' }),
    ],
    scopes: SCOPE.split(' '),
    extraTokenClaims: ({ oidc }) => ({
      ...(oidc.params.grant_type === TOKEN_EXCHANGE ? { act: { sub: oidc.client.clientId } } : {}),
      ...(group ? { groups: [group] } : {}),
    }),
    features: {
      devInteractions: { enabled: true }, // pages on which anybody logs in with any password
      clientCredentials: { enabled: true },
      deviceFlow: { enabled: true },
      introspection: { enabled: true, allowedPolicy: () => true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => 'urn:x:jwt',
        useGrantedResource: () => true,
        getResourceServerInfo: (_context, name) => knownResource(name),
      },
    },
  });
  const single = ['subject_token', 'subject_token_type', 'requested_token_type', 'audience', 'resource', 'scope'];
  made.registerGrantType(TOKEN_EXCHANGE, exchange, single);
  return made;
}

// ---- the server

const controls = {
  '/test/rotate': (settings) => {
    alg = settings.get('alg') ?? alg;
    keys = [newKey('RS256'), newKey('ES256'), ...(settings.has('drop') ? [] : keys)];
    answer = newProvider().callback();
    return {};
  },
  '/test/control': (settings) => {
    settings.getAll('forbid').forEach((audience) => forbidden.add(audience));
    settings.getAll('allow').forEach((audience) => forbidden.delete(audience));
    life = Number(settings.get('life') ?? life);
    group = settings.get('group') ?? group;
    return { exchanges: exchanged };
  },
};

let answer;
const server = http.createServer((request, response) => {
  const url = new URL(request.url, issuer);
  const control = request.method === 'POST' ? controls[url.pathname] : undefined;
  if (control === undefined) {
    answer(request, response);
  } else {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(control(url.searchParams)));
  }
});
server.listen(0, '127.0.0.1', () => {
  issuer = `http://127.0.0.1:${server.address().port}`;
  answer = newProvider().callback();
  console.log(`ready ${issuer}`);
});
process.stdin.on('end', () => process.exit(0)).resume();
