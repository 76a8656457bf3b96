"""The matrix: a recipe with every set and every objective in turn, at equal stored floats, as a heat map.

stillhouse matrix digits --sets pixels,canvas,poster --objectives trajectory,distribution,unrolled --budget 1
"""
