// A real OpenID provider (npm oidc-provider) for test_provider.py: client credentials, JWT and opaque access
// tokens, introspection, and a change of keys on POST /test/rotate (?drop=1 forgets the old ones).
import { createRequire } from 'node:module';
import { generateKeyPairSync } from 'node:crypto';
import { pathToFileURL } from 'node:url';
import http from 'node:http';

const require = createRequire(pathToFileURL(process.env.MODULES + '/'));
const { Provider } = await import(pathToFileURL(require.resolve('oidc-provider')));

const kinds = { RS256: ['rsa', { modulusLength: 2048 }], ES256: ['ec', { namedCurve: 'P-256' }] };
function newKey(alg) {
  const [kind, options] = kinds[alg];
  const { privateKey } = generateKeyPairSync(kind, options);
  return { ...privateKey.export({ format: 'jwk' }), alg, use: 'sig', kid: `${alg}-${Date.now()}-${Math.random()}` };
}

let keys = [newKey('RS256'), newKey('ES256')];
let alg = 'RS256';
let issuer;

function provider() {
  const resource = (format) => ({
    scope: 'wes-service other',
    audience: 'wes-bridge',
    accessTokenFormat: format,
    accessTokenTTL: Number(process.env.TTL ?? 600),
    jwt: { sign: { alg } },
  });
  const resources = { 'urn:x:jwt': resource('jwt'), 'urn:x:opaque': resource('opaque') };
  return new Provider(issuer, {
    jwks: { keys },
    clients: ['alice', 'bob'].map((name) => ({
      client_id: name,
      client_secret: `${name}-secret`,
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
    })),
    scopes: ['wes-service', 'other'],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      introspection: { enabled: true, allowedPolicy: () => true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_context, name) =>
          name === 'urn:x:other' ? { ...resource('jwt'), audience: 'other-service' } : resources[name],
      },
    },
  });
}

let answer;
const server = http.createServer((request, response) => {
  const url = new URL(request.url, issuer);
  if (request.method === 'POST' && url.pathname === '/test/rotate') {
    alg = url.searchParams.get('alg') ?? alg;
    keys = [newKey('RS256'), newKey('ES256'), ...(url.searchParams.has('drop') ? [] : keys)];
    answer = provider().callback();
    response.end('{}');
  } else {
    answer(request, response);
  }
});
server.listen(0, '127.0.0.1', () => {
  issuer = `http://127.0.0.1:${server.address().port}`;
  answer = provider().callback();
  console.log(`ready ${issuer}`);
});
process.stdin.on('end', () => process.exit(0)).resume();
