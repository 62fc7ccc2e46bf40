"""Pure functions on numpy arrays, and the conventions the whole code base holds to.

Images   uint8 (H, W, 3), RGB, 0..255
Masks    bool (H, W) or (N, H, W)
Boxes    float32 (N, 4), x1 y1 x2 y2 in pixels, origin at the top left, x2 and y2 exclusive
Scores   float32 (N,), 0..1
Points   float32 (N, 2), x y in pixels

Anything else (BGR, CHW, 0..1 floats, normalised boxes) exists only inside the engine that needs it
and is converted at its border.
"""
