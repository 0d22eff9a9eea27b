/** The package has no types of its own. */
declare module 'unix-crypt-td-js' {
  /** Traditional DES crypt(3): `salt` is two characters. */
  export default function crypt(password: string, salt: string): string;
}
