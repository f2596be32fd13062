// A provider for tests: npm oidc-provider with device login, refresh tokens and an RFC 8693 grant.
import { Provider, errors } from 'oidc-provider';
import { generateKeyPairSync } from 'node:crypto';
import http from 'node:http';
const port = +process.env.PORT || 18190, iss = `http://127.0.0.1:${port}`;
const jwk = kid => ({ ...generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' }), kid, use: 'sig', alg: 'RS256' });
const TE = 'urn:ietf:params:oauth:grant-type:token-exchange', DC = 'urn:ietf:params:oauth:grant-type:device_code', AT = 'urn:ietf:params:oauth:token-type:access_token';
let keys = [jwk('k1')];
const ttl = +process.env.TTL || 60;
const exchanges = [], forbidden = new Set();
let life = ttl;
const adapterStore = new Map();                       // shared by every Provider made here, so that a key rotation keeps grants
class Mem { constructor(n) { this.n = n; } k(id) { return this.n + ':' + id; }
  async upsert(id, p) { adapterStore.set(this.k(id), p); if (p.uid) adapterStore.set(this.n + ':uid:' + p.uid, id); if (p.userCode) adapterStore.set('uc:' + p.userCode, id); }
  async find(id) { return adapterStore.get(this.k(id)); }
  async findByUid(u) { return this.find(adapterStore.get(this.n + ':uid:' + u)); }
  async findByUserCode(c) { return this.find(adapterStore.get('uc:' + c)); }
  async consume(id) { adapterStore.get(this.k(id)).consumed = Math.floor(Date.now() / 1000); }
  async destroy(id) { adapterStore.delete(this.k(id)); }
  async revokeByGrantId(g) { for (const [k, v] of adapterStore) if (v?.grantId === g) adapterStore.delete(k); } }
function make() {
  const p = new Provider(iss, { adapter: Mem, jwks: { keys }, cookies: { keys: ['x'] },
    clients: [
      { client_id: 'wes-bridge', client_secret: 'wbsecret', grant_types: ['client_credentials', 'refresh_token', 'authorization_code', TE], redirect_uris: ['http://127.0.0.1/cb'] },
      { client_id: 'user-cli', token_endpoint_auth_method: 'none', grant_types: [DC, 'refresh_token'], redirect_uris: [], response_types: [] } ],
    scopes: ['openid', 'offline_access', 'wes-service', 'broker-a-service'],
    features: { devInteractions: { enabled: true }, deviceFlow: { enabled: true }, clientCredentials: { enabled: true }, introspection: { enabled: true }, revocation: { enabled: true },
      resourceIndicators: { enabled: true, defaultResource: () => 'urn:x:wes-bridge', useGrantedResource: () => true,
        getResourceServerInfo: (ctx, r) => ({ scope: 'openid offline_access wes-service broker-a-service', audience: r.replace('urn:x:', ''), accessTokenFormat: 'jwt', accessTokenTTL: life, jwt: { sign: { alg: 'RS256' } } }) } },
    ttl: { AccessToken: life, RefreshToken: 600, DeviceCode: 300, Grant: 3600, Interaction: 300, Session: 3600 },
    pkce: { required: () => false } });
  p.registerGrantType(TE, async ctx => {
    const b = ctx.oidc.params, { JWT } = await import('./jwt.mjs');
    let sub; try { sub = await JWT.verify(b.subject_token, keys, iss); } catch (e) { throw new errors.InvalidGrant('subject_token ' + e.message); }
    if (b.subject_token_type !== AT) throw new errors.InvalidRequest('subject_token_type');
    const aud = b.audience || b.resource; if (!aud || forbidden.has(aud)) throw new errors.InvalidTarget();
    if (![].concat(sub.aud).includes('wes-bridge')) throw new errors.InvalidGrant('the token is not for this client');
    exchanges.push(aud);
    ctx.oidc.entity('Client', ctx.oidc.client);
    ctx.body = { access_token: await JWT.sign({ iss, sub: sub.sub, aud, scope: b.scope || sub.scope, client_id: ctx.oidc.client.clientId, act: { sub: ctx.oidc.client.clientId }, exp: Math.floor(Date.now() / 1000) + life }, keys[0]), issued_token_type: AT, token_type: 'Bearer', expires_in: life, scope: b.scope || sub.scope };
  }, ['subject_token', 'subject_token_type', 'requested_token_type', 'audience', 'resource', 'scope', 'actor_token', 'actor_token_type'], ['audience', 'resource']);
  return p; }
let cb = make().callback();
http.createServer((q, s) => {
  if (q.method === 'POST' && q.url.startsWith('/test/control')) {
    const u = new URL(q.url, iss);
    for (const a of u.searchParams.getAll('forbid')) forbidden.add(a);
    for (const a of u.searchParams.getAll('allow')) forbidden.delete(a);
    if (u.searchParams.get('life')) { life = +u.searchParams.get('life'); cb = make().callback(); }
    s.setHeader('content-type', 'application/json'); s.end(JSON.stringify({ exchanges })); return; }
   if (q.method === 'POST' && q.url === '/test/rotate') { keys = [jwk('k' + Date.now()), ...(process.env.DROP ? [] : keys)]; cb = make().callback(); s.end(JSON.stringify(keys.map(k => k.kid)) + '\n'); } else cb(q, s); }).listen(port, '127.0.0.1', () => console.log('up', iss));
