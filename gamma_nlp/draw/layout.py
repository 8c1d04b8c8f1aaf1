"""Where everything goes: the stream runs down, and branches leave it to the right."""

from __future__ import annotations

from collections.abc import Sequence

from gamma_nlp.draw.shapes import (
    RADIUS,
    BoxShape,
    DotShape,
    Frame,
    Line,
    Meet,
    Piece,
    Plus,
    Style,
    Text,
    times,
    width_of,
)
from gamma_nlp.draw.stream import (
    Block,
    Box,
    BoxKind,
    Dot,
    Element,
    Fold,
    Split,
    Stream,
    Tangle,
    walk,
)

_STEP = 26.0
"""Height of a dot or a box with the line above and below it."""
_BOX = 19.0
_GAP = 14.0
"""Between neighbours."""
_TURN = 9.0
"""Where a branch leaves or returns, from the edge of its block."""
_LANE = 9.0


def place(stream: Stream, style: Style = Style.STREAM) -> Piece:
    """Return a stream with places: its axis at x = 0, its start at y = 0."""
    piece = Piece()
    for element in stream:
        inner = _element(element, style)
        piece.put(inner, 0, piece.height)
        piece.height += inner.height
    return piece


def _element(element: Element, style: Style) -> Piece:
    match element:
        case Dot():
            return _dot(element, style)
        case Box():
            return _box(element, style)
        case Block():
            return _block(element)
        case Split():
            return _split(element, style)
        case Tangle():
            return _tangle(element, style)
        case Fold():
            return _fold(element, style)


def _dot(dot: Dot, style: Style) -> Piece:
    piece = Piece(height=_STEP, left=RADIUS, right=RADIUS)
    y, away = _STEP / 2, RADIUS + 4
    piece.draw(_down(0, 0, _STEP, style), DotShape(x=0, y=y, dot=dot))
    if style is Style.STREAM:
        piece.draw(Text(x=-away, y=y, text=dot.label, anchor="end"))
        piece.left = away + width_of(dot.label)
    else:
        piece.draw(Text(x=away, y=y, text=dot.label))
        piece.right = away + width_of(dot.label)
    piece.mark(dot.nodes, -RADIUS, 0, y)
    return piece


def _box(box: Box, style: Style) -> Piece:
    if box.kind is BoxKind.PLAIN:
        return _point(box, style)
    width = max(width_of(box.label) + 12, 24)
    piece = Piece(height=_STEP, left=width / 2, right=width / 2)
    start = _STEP / 2 if box.kind in (BoxKind.INPUT, BoxKind.MEMORY) else 0
    piece.draw(_down(0, start, _STEP, style))
    piece.draw(BoxShape(x=0, y=_STEP / 2, width=width, height=_BOX, box=box))
    piece.mark(box.nodes, -width / 2, 0, _STEP / 2)
    return piece


def _point(box: Box, style: Style) -> Piece:
    """Return a place where a link starts or ends, and nothing else is to be seen."""
    piece = Piece(height=_STEP / 2, left=4, right=4)
    y = _STEP / 4
    piece.draw(_down(0, 0, _STEP / 2, style), Meet(x=0, y=y))
    piece.mark(box.nodes, -3, 0, y)
    return piece


def _block(block: Block) -> Piece:
    around = len(block.branches) == 1 and not block.skip and _blocks_in(block.branches[0]) > 1
    return _skip_around(block) if around else _loops(block)


def _blocks_in(stream: Stream) -> int:
    """Return how many residual additions follow one another in a stream."""
    return sum(
        e.count * _blocks_in(e.pattern) if isinstance(e, Fold) else int(isinstance(e, Block))
        for e in stream
    )


def _loops(block: Block) -> Piece:
    """Return a block whose skip is the axis and whose branches are loops to its right."""
    skip = place(block.skip)
    branches = [place(b, Style.BRANCH) for b in block.branches]
    height = max([skip.height, *(b.height for b in branches), 8.0])
    piece = Piece(height=height + 4 * _TURN)
    piece.put(skip, 0, 2 * _TURN)
    piece.draw(_down(0, 0, 2 * _TURN, Style.STREAM))
    piece.draw(_down(0, 2 * _TURN + skip.height, piece.height, Style.STREAM))
    end = height + 3 * _TURN
    edge = max(skip.right, RADIUS)
    for branch in branches:
        x = edge + _GAP + max(branch.left, 4.0)
        top = 2 * _TURN + (height - branch.height) / 2
        piece.put(branch, x, top)
        piece.draw(
            _line([(0, _TURN), (x, _TURN), (x, top)], Style.BRANCH),
            _line([(x, top + branch.height), (x, end), (RADIUS, end)], Style.BRANCH, arrow=True),
        )
        edge = x + branch.right
    piece.draw(Plus(x=0, y=end))
    piece.right = max(piece.right, edge)
    piece.left = max(piece.left, RADIUS)
    piece.mark(block.nodes, -RADIUS, 0, end)
    return piece


def _skip_around(block: Block) -> Piece:
    """Return a block that holds a network: the network is the axis, the skip a line beside it."""
    network = place(block.branches[0])
    piece = Piece(height=network.height + 4 * _TURN, left=RADIUS)
    piece.put(network, 0, 2 * _TURN)
    end = piece.height - _TURN
    piece.draw(_down(0, 0, 2 * _TURN, Style.STREAM))
    piece.draw(_down(0, 2 * _TURN + network.height, piece.height, Style.STREAM))
    x = network.right + _GAP
    skip = [(0.0, _TURN), (x, _TURN), (x, end), (RADIUS, end)]
    piece.draw(_line(skip, Style.STREAM, arrow=True), Plus(x=0, y=end))
    piece.right = x + 4
    piece.mark(block.nodes, -RADIUS, 0, end)
    return piece


def _split(split: Split, style: Style) -> Piece:
    """Return paths side by side: the one with most in it is the axis, or they are centred."""
    order = sorted(split.paths, key=lambda path: -sum(1 for _ in walk(path)))
    if style is Style.BRANCH and all(order):
        order = list(split.paths)
    paths = [
        place(path, style if i == 0 else _style_beside(path, style)) for i, path in enumerate(order)
    ]
    height = max([path.height for path in paths] + [6.0])
    piece = Piece(height=height + 4 * _TURN, left=4, right=4)
    places, edge = [0.0], paths[0].right
    for path in paths[1:]:
        places.append(edge + _GAP + max(path.left, 2.0))
        edge = places[-1] + max(path.right, 2.0)
    shift = places[-1] / 2 if style is Style.BRANCH and all(order) else 0.0
    end = height + 3 * _TURN
    for path, there, stream in zip(paths, places, order, strict=True):
        x = there - shift
        look = style if there == 0 else _style_beside(stream, style)
        top = 2 * _TURN + (height - path.height) / 2
        piece.put(path, x, top)
        if not _from_elsewhere(stream):
            piece.draw(_line([(0, 0), (0, _TURN), (x, _TURN), (x, top)], look))
        below = [(x, top + path.height), (x, end), (0, end), (0, piece.height)]
        piece.draw(_line(below, look))
        piece.left, piece.right = max(piece.left, -x + 4), max(piece.right, x + 4)
    piece.draw(_down(0, end, piece.height, style), Meet(x=0, y=end))
    return piece


def _style_beside(stream: Stream, style: Style) -> Style:
    """Return how a path beside the axis looks: an empty one carries the stream on."""
    whole = not stream or any(isinstance(e, (Block, Fold)) for e in walk(stream))
    return style if whole else Style.BRANCH


def _from_elsewhere(stream: Stream) -> bool:
    return bool(stream) and isinstance(stream[0], Box) and stream[0].kind is BoxKind.MEMORY


def _tangle(tangle: Tangle, style: Style) -> Piece:
    """Return elements one below the other; what reads another than the one above is an arc."""
    inner = [_element(element, style) for element in tangle.elements]
    tops, y = [], 0.0
    piece = Piece()
    for one in inner:
        tops.append(y)
        piece.put(one, 0, y + _TURN)
        y += one.height + 2 * _TURN
    piece.height = y
    arcs = []
    for start, end in tangle.edges:
        above = 0.0 if start < 0 else tops[start] + inner[start].height + _TURN
        below = y if end == len(inner) else tops[end] + _TURN
        if end == start + 1:
            piece.draw(_down(0, above, below, style))
        else:
            arcs.append((above, below))
    edge = piece.right
    for lane, (above, below) in _lanes(arcs):
        x = edge + _GAP / 2 + lane * _LANE
        leave, enter = above + _TURN / 2, below - _TURN / 2
        points = [(0, above), (0, leave), (x, leave), (x, enter), (0, enter), (0, below)]
        piece.draw(_line(points, Style.BRANCH))
        piece.right = max(piece.right, x + 3)
    return piece


def _lanes(arcs: Sequence[tuple[float, float]]) -> list[tuple[int, tuple[float, float]]]:
    """Give each arc a lane in which it meets no other; short arcs are inside."""
    taken: list[list[tuple[float, float]]] = []
    found = []
    for arc in sorted(set(arcs), key=lambda a: a[1] - a[0]):
        free = (i for i, lane in enumerate(taken) if all(_apart(arc, other) for other in lane))
        lane = next(free, len(taken))
        if lane == len(taken):
            taken.append([])
        taken[lane].append(arc)
        found.append((lane, arc))
    return found


def _apart(one: tuple[float, float], two: tuple[float, float]) -> bool:
    return one[1] <= two[0] or two[1] <= one[0]


def _fold(fold: Fold, style: Style) -> Piece:
    inner = place(fold.pattern, style)
    # Room for the count of a pattern that starts with one.
    side, above = 8.0, 24.0 if isinstance(fold.pattern[0], Fold) else 12.0
    chip = width_of(times(fold.count)) + 14
    piece = Piece(height=inner.height + above + 12)
    left, right = inner.left + side, max(inner.right + side, chip - inner.left)
    frame = Frame(x=-left, y=5, width=left + right, height=piece.height - 10, count=fold.count)
    piece.draw(frame, _down(0, 0, above, style))
    piece.put(inner, 0, above)
    piece.draw(_down(0, above + inner.height, piece.height, style))
    piece.left, piece.right = left, right
    return piece


def _down(x: float, start: float, end: float, style: Style) -> Line:
    return Line(points=((x, start), (x, end)), style=style)


def _line(points: Sequence[tuple[float, float]], style: Style, *, arrow: bool = False) -> Line:
    return Line(points=tuple(points), style=style, arrow=arrow)
