import { createPrivateKey, createPublicKey, createSign, createVerify } from 'node:crypto';
const b = o => Buffer.from(JSON.stringify(o)).toString('base64url');
export const JWT = {
  async sign(claims, k) { const d = b({ alg: 'RS256', typ: 'at+jwt', kid: k.kid }) + '.' + b({ iat: Math.floor(Date.now() / 1000), jti: crypto.randomUUID(), ...claims }); return d + '.' + createSign('RSA-SHA256').update(d).sign(createPrivateKey({ key: k, format: 'jwk' })).toString('base64url'); },
  async verify(t, keys, iss) { const [h, p, s] = String(t).split('.'), kid = JSON.parse(Buffer.from(h, 'base64url')).kid, k = keys.find(x => x.kid === kid); if (!k) throw Error('unknown kid'); if (!createVerify('RSA-SHA256').update(h + '.' + p).verify(createPublicKey({ key: k, format: 'jwk' }), Buffer.from(s, 'base64url'))) throw Error('signature'); const c = JSON.parse(Buffer.from(p, 'base64url')); if (c.iss !== iss) throw Error('issuer'); if (c.exp * 1000 < Date.now()) throw Error('expired'); return c; } };
