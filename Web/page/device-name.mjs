/** A first suggestion, such as “Firefox on Android”. */
export function suggestedDeviceName() {
  const agent = navigator.userAgent;
  const find = (names) => names.find(([mark]) => agent.includes(mark))?.[1];
  const browser = find([['Edg', 'Edge'], ['OPR/', 'Opera'], ['Firefox/', 'Firefox'], ['FxiOS', 'Firefox'],
    ['Chrome/', 'Chrome'], ['CriOS', 'Chrome'], ['Safari/', 'Safari']]) ?? 'Browser';
  const system = find([['Android', 'Android'], ['iPhone', 'iPhone'], ['iPad', 'iPad'], ['Mac OS', 'Mac'],
    ['Windows', 'Windows'], ['CrOS', 'Chromebook'], ['Linux', 'Linux']]);
  return system ? `${browser} on ${system}` : browser;
}
